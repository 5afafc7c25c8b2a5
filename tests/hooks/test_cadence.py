"""Which steps are observed."""

from itertools import pairwise

from gradscope.hooks.cadence import DENSE, FIRST, RAREST, Cadence


def observed(cadence: Cadence, steps: int, *, spent: float, bare: float = 1.0) -> list[int]:
    """The observed steps of a run whose observed steps cost `spent` on top of `bare` seconds."""
    seen = []
    for step in range(steps):
        here = cadence.observe(step)
        seen += [step] * here
        ours = spent if here else 0.0
        cadence.account(step, bare + ours, ours, here)
    return seen


def test_the_first_steps_are_all_observed() -> None:
    assert observed(Cadence(), FIRST, spent=5.0) == list(range(FIRST))


def test_the_budget_decides_afterwards() -> None:
    later = [step for step in observed(Cadence(budget=0.02), 2000, spent=0.5) if step >= FIRST]
    assert {b - a for a, b in pairwise(later)} == {25}


def test_what_costs_less_than_the_budget_is_observed_at_every_step() -> None:
    assert observed(Cadence(budget=0.02), 100, spent=0.01) == list(range(100))


def test_it_never_starves() -> None:
    later = [step for step in observed(Cadence(budget=0.001), 4 * RAREST, spent=1e6) if step >= FIRST]
    assert {b - a for a, b in pairwise(later)} == {RAREST}


def test_it_adapts_when_steps_become_slower() -> None:
    cadence = Cadence(budget=0.02)
    fast = observed(cadence, 500, spent=0.5)
    for step in range(500, 1000):
        here = cadence.observe(step)
        fast += [step] * here
        ours = 0.5 if here else 0.0
        cadence.account(step, 100.0 + ours, ours, here)
    assert fast[-100:] == list(range(900, 1000))


def test_every_fixes_the_cadence() -> None:
    assert observed(Cadence(every=7), 30, spent=100.0) == [0, 7, 14, 21, 28]


def test_after_a_finding_the_next_steps_are_observed() -> None:
    cadence = Cadence(budget=0.001)
    observed(cadence, 100, spent=1.0)
    assert not cadence.observe(100)
    cadence.watch_closely(100)
    assert [cadence.observe(step) for step in range(100, 107)] == [True] * DENSE + [False] * 2
