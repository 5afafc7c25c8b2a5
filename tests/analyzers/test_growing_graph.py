from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from gradscope.analyzers.growing_graph import GrowingGraph
from gradscope.events import EventKind, LoopEvent
from gradscope.findings import Finding, Severity
from gradscope.records import Recording
from gradscope.testing import recording, step_event
from gradscope.traces import Failure, Location

LINE = Location("train.py", 30)
SECOND = "Trying to backward through the graph a second time (or directly access saved tensors ...)"


def run(**passes: Sequence[int]) -> Recording:
    steps = len(next(iter(passes.values())))
    events = {step: [LoopEvent(EventKind.BACKWARD, LINE), step_event()] for step in range(steps)}
    return recording(
        steps=steps,
        activation=dict.fromkeys(passes, 1.0),
        activation_gradient=dict.fromkeys(passes, 0.1),
        passes=passes,
        events=events,
    )


def found(made: Recording) -> list[Finding]:
    return list(GrowingGraph().analyze(made))


def test_fires_when_each_step_goes_through_one_forward_more() -> None:
    (finding,) = found(run(cell=range(1, 9), head=[1] * 8))
    assert (finding.step, finding.sites, finding.location) == (1, ("cell",), LINE)
    assert "step 7 went through 8 forwards of 'cell'" in finding.message


def test_fires_from_where_it_began() -> None:
    (finding,) = found(run(cell=[1, 1, 1, 1, 2, 3, 4, 5, 6, 7]))
    assert finding.step == 4


@pytest.mark.parametrize(
    "passes",
    [
        [1] * 8,  # as usual
        [2] * 8,  # two losses on one graph
        [1, 2, 3, 4, 4, 4, 4, 4, 4],  # a window that slides
        [1, 2, 1, 2, 1, 2, 1, 2],  # networks that take turns
        [1, 2, 4, 5, 6, 8, 9, 11],  # as many as there happen to be
        [1, 2, 3, 4, 5],  # too few steps to tell
        [8, 7, 6, 5, 4, 3, 2, 1],
        [1, 1, 2, 3, 4, 5],  # just begun
    ],
)
def test_silent_on(passes: list[int]) -> None:
    assert not found(run(cell=passes))


def test_fires_from_the_second_step_on_at_the_earliest() -> None:
    (finding,) = found(run(cell=range(2, 10)))
    assert finding.step == 1


def scaled(made: Recording, factor: int) -> Recording:
    """So many times as many forwards in each step."""
    for step in made.steps:
        assert step.stored is not None
        step.stored[0, :3] *= factor
    return made


def test_fires_where_one_of_many_forwards_is_carried_on() -> None:
    (finding,) = found(scaled(run(cell=range(8, 16)), 8))
    assert "1.875 forwards of 'cell'" in finding.message


def test_silent_where_a_backward_reaches_more_and_more_of_one_forward() -> None:
    assert not found(scaled(run(cell=range(1, 9)), 10))


def test_it_names_the_line_of_the_last_backward() -> None:
    made = run(cell=range(1, 9))
    later = Location("train.py", 31)
    events = (step_event(location=Location("train.py", 32)), LoopEvent(EventKind.BACKWARD, later), step_event())
    (finding,) = found(replace(made, steps=(*made.steps[:-1], replace(made.steps[-1], events=events))))
    assert finding.location == later


def test_silent_without_steps_and_on_few_that_lie_apart() -> None:
    made = run(cell=range(1, 5))
    assert not found(replace(made, steps=()))
    apart = tuple(replace(step, index=index) for step, index in zip(made.steps, (0, 2, 4, 5), strict=True))
    assert not found(replace(made, steps=apart))


def test_silent_on_a_module_that_began_to_run_later_and_on_gradients_without_a_forward() -> None:
    made = run(cell=range(1, 9), head=range(1, 9))
    for step in made.steps[:4]:
        assert step.stored is not None
        step.stored[:2] = np.array([0.0, 0.0, 0.0, np.inf, -np.inf])
    assert not found(made)
    grown: dict[str, Sequence[int]] = {"cell": range(1, 9), "head": range(1, 9)}
    gradients = dict.fromkeys(grown, 0.1)
    assert not found(recording(steps=8, activation={"other": 1.0}, activation_gradient=gradients, passes=grown))


def test_silent_on_longer_sequences() -> None:
    made = run(cell=range(1, 9))
    for step in made.steps:
        assert step.stored is not None
        step.stored[0, :3] *= step.index + 1  # the activations, as many as gradients
    assert not found(made)


def test_silent_where_steps_were_left_out() -> None:
    made = run(cell=range(1, 9))
    assert not found(replace(made, steps=tuple(replace(step, index=3 * step.index) for step in made.steps)))


def test_silent_where_no_forward_was_measured() -> None:
    made = run(cell=range(1, 9))
    for step in made.steps:
        assert step.stored is not None
        step.stored[0] = np.array([0.0, 0.0, 0.0, np.inf, -np.inf])
    assert not found(made)


def test_fires_where_a_freed_graph_ended_the_run() -> None:
    failure = Failure(1, "backward", "cell", SECOND, location=LINE)
    (finding,) = found(replace(run(cell=[1]), failure=failure))
    assert (finding.severity, finding.step, finding.location) == (Severity.ERROR, 1, LINE)
    assert finding.sites == ("cell",)


def test_the_end_is_told_alone_and_also_where_no_module_is_known() -> None:
    failure = Failure(8, "backward", "", SECOND, location=LINE)
    (finding,) = found(replace(run(cell=range(1, 9)), failure=failure))
    assert (finding.cause, finding.sites) == ("freed", ())


def test_silent_on_a_second_backward_in_the_first_step_and_on_other_ends() -> None:
    assert not found(replace(run(cell=[1]), failure=Failure(0, "backward", "cell", SECOND)))
    assert not found(replace(run(cell=[1]), failure=Failure(1, "backward", "cell", "out of memory")))
