from collections.abc import Iterable
from dataclasses import replace

import pytest

from gradscope.analyzers.undivided_accumulation import UndividedAccumulation
from gradscope.events import EventKind, LoopEvent
from gradscope.findings import Finding
from gradscope.records import ParameterInfo, Recording, StepEnd
from gradscope.testing import recording, step_event
from gradscope.traces import Location, Operation

LINE = Location("train.py", 12)


def losses(names: Iterable[str], reduction: str = "", line: Location = LINE) -> list[Operation]:
    return [
        Operation(index, name, location=line, shapes=((),), has_graph=True, is_loss=True, reduction=reduction)
        for index, name in enumerate(names)
    ]


def run(operations: list[Operation], *, backwards: int = 4, optimizer: str = "SGD", steps: int = 3) -> Recording:
    ends = LoopEvent(EventKind.STEP, optimizer=optimizer, parameters=2)
    events = [LoopEvent(EventKind.BACKWARD)] * backwards + [ends]
    return recording(steps=steps, operations=operations, events=dict.fromkeys(range(steps), events))


def found(made: Recording) -> list[Finding]:
    return list(UndividedAccumulation().analyze(made))


def test_fires_on_means_that_are_added_up() -> None:
    (finding,) = found(run(losses(["cross_entropy"] * 4)))
    assert (finding.step, finding.location) == (0, LINE)
    assert finding.why.endswith("as if the learning rate were")


def test_fires_and_says_that_adam_makes_up_for_it() -> None:
    (finding,) = found(run(losses(["mean"] * 16, "mean"), backwards=16, optimizer="AdamW"))
    assert "AdamW itself makes up for that" in finding.why


def test_fires_on_more_than_are_kept_and_says_so() -> None:
    (finding,) = found(run(losses(["mean"] * 70), backwards=64))
    assert finding.message.startswith("64 or more means")
    (finding,) = found(run(losses(["mean"] * 63), backwards=63))
    assert finding.message.startswith("63 means")


def test_fires_although_the_last_step_is_not_over() -> None:
    made = run(losses(["mse_loss"] * 4))
    last = replace(made.steps[-1], end=StepEnd.OPEN, events=made.steps[-1].events[:2])
    assert found(replace(made, steps=(*made.steps[:-1], last)))


@pytest.mark.parametrize("name", ["div", "mul", "sum", "add", "neg"])
def test_silent_on_what_is_no_plain_mean(name: str) -> None:
    assert not found(run(losses([name] * 4)))
    assert not found(run(losses(["mse_loss", "mse_loss", "mse_loss", name])))


def test_silent_on_sums_and_on_few_losses() -> None:
    assert not found(run(losses(["cross_entropy"] * 4, "sum")))
    assert not found(run(losses(["mse_loss"] * 3), backwards=3))


def test_silent_on_different_losses() -> None:
    other = losses(["mse_loss"] * 4, line=Location("train.py", 13))
    assert not found(run([*losses(["mse_loss"] * 4), *other], backwards=8))
    lines = [LoopEvent(EventKind.BACKWARD, Location("train.py", line)) for line in (1, 2, 3, 4)]
    events = {step: [*lines, step_event()] for step in range(3)}
    assert not found(recording(steps=3, operations=losses(["mse_loss"]), events=events))


def test_silent_where_the_number_changes_from_step_to_step() -> None:
    few = {step: [LoopEvent(EventKind.BACKWARD)] * number + [step_event()] for step, number in enumerate((4, 1, 4))}
    assert not found(recording(steps=3, operations=losses(["mse_loss"] * 4), events=few))


def test_silent_where_several_optimizers_step() -> None:
    events = [LoopEvent(EventKind.BACKWARD)] * 4 + [step_event(), step_event()]
    assert not found(recording(steps=3, operations=losses(["mse_loss"] * 4), events=dict.fromkeys(range(3), events)))


def test_silent_on_the_closures_of_lbfgs() -> None:
    assert found(run(losses(["mse_loss"] * 6), backwards=6))
    assert not found(run(losses(["mse_loss"] * 6), backwards=6, optimizer="LBFGS"))


@pytest.mark.parametrize(("contributions", "fires"), [(12, True), (3, False)])
def test_silent_where_no_parameter_receives_what_the_backwards_made(contributions: int, fires: bool) -> None:
    weight = ParameterInfo("fc.weight", "fc", optimizer_steps=3, contributions=contributions)
    made = replace(run(losses(["mse_loss"] * 4)), parameters=(weight,))
    assert bool(found(made)) == fires
