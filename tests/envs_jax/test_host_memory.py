"""Requests beyond the memory of the host."""

import pytest

from envs_jax import host_memory


@pytest.mark.parametrize(("limit", "refused"), [("4096\n", True), ("max\n", False), (None, False)])
def test_a_container_may_have_less_memory_than_the_machine(monkeypatch, tmp_path, limit, refused):
    file = tmp_path / "memory.max"
    if limit is not None:
        file.write_text(limit)
    monkeypatch.setattr(host_memory, "_CGROUP_LIMIT", file)
    host_memory.check_fits("n=1", "they", 4096, "ask for less")
    if refused:
        with pytest.raises(ValueError, match="n=2: they would take 0 GiB or more, and there are 0 GiB of memory; ask"):
            host_memory.check_fits("n=2", "they", 4097, "ask for less")
    else:
        host_memory.check_fits("n=2", "they", 4097, "ask for less")


def test_no_machine_holds_an_exbibyte():
    with pytest.raises(ValueError, match="would take 1,073,741,824 GiB"):
        host_memory.check_fits("n=1", "they", 2**60, "ask for less")
