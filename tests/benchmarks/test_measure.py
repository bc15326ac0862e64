"""The clockwork: calibration, alternation, failures that stay alone, and compiled loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import measure as m
from benchmarks.measure import Arm, Budget, Measurement, Program, Unavailable

BUDGET = Budget("test", repeats=4, seconds=1.0)


class Clock:
    """A clock that only the arms move on."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.calls = []
        monkeypatch.setattr(m.time, "perf_counter", lambda: self.now)

    def arm(self, name, seconds_per_step, items=1.0):
        def run(num_steps):
            self.calls.append((name, num_steps))
            self.now += seconds_per_step * num_steps

        return lambda: Arm(run, items)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_rates_are_items_a_second(clock):
    arms = {"slow": clock.arm("slow", 0.5, items=10), "fast": clock.arm("fast", 1e-4, items=3)}
    measured = m.measure(arms, BUDGET)
    np.testing.assert_allclose(measured["slow"].rates, np.full(4, 20.0))
    np.testing.assert_allclose(measured["fast"].rates, np.full(4, 30_000.0))
    np.testing.assert_allclose(m.ratio(measured["fast"], measured["slow"]), np.full(4, 1_500.0))


def test_steps_are_calibrated_to_the_time_of_a_repeat(clock):
    measured = m.measure({"a": clock.arm("a", 1e-5), "b": clock.arm("b", 0.3), "c": clock.arm("c", 7.0)}, BUDGET)
    assert measured["a"].steps == 100_000
    assert measured["b"].steps == 3
    assert measured["c"].steps == 1


def test_arms_alternate_and_take_turns_at_being_first(clock):
    m.measure({name: clock.arm(name, 1.0) for name in "abc"}, BUDGET)
    order = "".join(name for name, _ in clock.calls[-12:])
    assert order == "abc" + "bca" + "cab" + "abc"


def test_an_arm_fails_alone(clock):
    def breaks_at(call):
        calls = []

        def run(num_steps):
            calls.append(num_steps)
            clock.now += num_steps
            if len(calls) == call:
                raise MemoryError("no room\nleft")

        return lambda: Arm(run, 1.0)

    def not_there():
        raise Unavailable("it is not installed")

    arms = {"early": breaks_at(1), "good": clock.arm("good", 1.0), "late": breaks_at(3), "missing": not_there}
    measured = m.measure(arms, BUDGET)
    assert list(measured) == ["early", "good", "late", "missing"]
    assert measured["good"].status == "ok" and len(measured["good"].rates) == 4
    for name in ("early", "late"):
        assert measured[name].status == "failed" and measured[name].rates is None
        assert measured[name].note.startswith("MemoryError in run (test_measure.py:")
        assert measured[name].note.endswith("no room left")
    assert (measured["missing"].status, measured["missing"].note) == ("unavailable", "it is not installed")
    assert m.ratio(measured["good"], measured["late"]) is None


def test_an_interrupt_is_not_an_arm_that_fails(clock):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        m.measure({"a": interrupted}, BUDGET)


def _counter():
    def body(constants, carry, key):
        count, words = carry
        return count + constants, words ^ jax.random.bits(key, words.shape, jnp.uint32)

    start = jnp.zeros(4, jnp.int32)
    words = jnp.zeros(4, jnp.uint32)
    return Program(body, jnp.int32(3), (start, words), items=4, summary=lambda carry: {"count": int(carry[0][0])})


def test_a_program_does_the_steps_asked_for_and_goes_on_where_it_stopped():
    arm = _counter().arm()
    arm.run(5)
    first = np.asarray(arm.run.carry[1])
    arm.run(2)
    assert arm.finish() == {"count": 21}
    assert arm.compile_seconds > 0
    assert not (np.asarray(arm.run.carry[1]) == first).any()


def test_calls_draw_different_numbers_and_the_same_call_the_same():
    words = []
    for _ in range(2):
        arm = _counter().arm()
        for _ in range(2):
            arm.run(1)
            words.append(np.asarray(arm.run.carry[1]))
    one, two, again, twice = words
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(two, twice)
    assert not (one == two).any()


def test_a_program_with_one_array_in_two_places_runs():
    shared = jnp.zeros(4)
    arm = Program(lambda constants, carry, key: (carry[0] + 1, carry[1] + 2), None, (shared, shared), 4).arm()
    arm.run(3)
    np.testing.assert_array_equal(arm.run.carry[0], np.full(4, 3.0))
    np.testing.assert_array_equal(arm.run.carry[1], np.full(4, 6.0))
    np.testing.assert_array_equal(shared, np.zeros(4))  # the caller's array is not donated


def test_a_failure_names_where_it_happened():
    try:
        jnp.zeros(3) @ jnp.zeros(4)
    except TypeError as error:
        found = m.failure(error)
    assert found.status == "failed" and found.note.startswith("TypeError in ")
    assert m.failure(Unavailable("no")) == Measurement(status="unavailable", note="no")


def test_nbytes():
    assert m.nbytes({"a": jnp.zeros(3, jnp.uint8), "b": (np.zeros((2, 2), np.float32), None)}) == 19
