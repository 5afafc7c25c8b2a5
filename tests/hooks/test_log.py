"""How the log of a step becomes the stored statistics of its sites."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from gradscope.hooks.log import FORWARD, StepLog
from gradscope.hooks.transfer import Arrived, Readback
from gradscope.records import Floats

SITES = 5


def stored(entries: Sequence[tuple[int, float, int]], latest: Sequence[tuple[int, float]], *tasks: int) -> Floats:
    """Of a step in which these sites had these values in these backwards, and of which those `tasks` counted."""
    readback, log = Readback(), StepLog(0, True)
    for site, value, task in entries:
        log.entries.add(site, readback.measure(torch.tensor([value])), task)
    log.latest.extend(
        [site for site, _ in latest], readback.measure_all([torch.tensor([value]) for _, value in latest])
    )
    log.tasks.update(tasks)
    log.transfers.append(readback.send())
    step = log.freeze(SITES, 0)
    assert step.stored is not None
    return step.stored


CASES = {
    "as most": ([(0, 1.0, FORWARD), (1, 2.0, 7)], [(3, 3.0)], [7]),
    "in another order": ([(1, 2.0, 7), (0, 1.0, FORWARD)], [(3, 3.0)], [7]),
    "nothing at all": ([], [], []),
    "two calls": ([(0, 1.0, FORWARD), (0, 2.0, FORWARD)], [(3, 3.0)], []),
    "of autograd.grad": ([(0, 1.0, FORWARD), (1, 2.0, 6), (1, 3.0, 7)], [(3, 3.0)], [7]),
    "of autograd.grad alone": ([(0, 1.0, FORWARD), (1, 2.0, 6)], [(3, 3.0)], [7]),
    "the last one counts": ([(0, 1.0, FORWARD)], [(3, 3.0), (3, 4.0), (0, 5.0)], []),
}


@pytest.mark.parametrize("case", CASES)
def test_stored_statistics_are_the_same_at_once_and_one_by_one(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entries, latest, tasks = CASES[case]
    at_once = stored(entries, latest, *tasks)
    monkeypatch.setattr(Arrived, "only_table", lambda _: None)
    np.testing.assert_array_equal(at_once, stored(entries, latest, *tasks))


def test_the_step_after_one_of_the_same_sites_has_its_own_values() -> None:
    first, second = (stored([(0, value, FORWARD)], [(2, -value)]) for value in (1.0, 2.0))
    assert first[[0, 2], 4].tolist() == [1, -1]
    assert second[[0, 2], 4].tolist() == [2, -2]
    assert np.isneginf(second[1, 4])
