"""The Python blocks of the README and the docs run, page by page, in order."""

import re
from pathlib import Path

import pytest

from envs_jax import registration

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("page", [page for page in PAGES if page.exists() and blocks(page)], ids=lambda page: page.name)
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registration, "_registry", dict(registration._registry))
    code = "\n".join(blocks(page)).replace("/tmp/", f"{tmp_path}/")
    exec(compile(code, str(page), "exec"), {"__name__": "__main__"})


def test_local_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
