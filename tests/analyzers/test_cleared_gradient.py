from dataclasses import replace

from gradscope.analyzers.cleared_gradient import ClearedGradient
from gradscope.events import EventKind, LoopEvent
from gradscope.findings import Finding, Severity
from gradscope.records import Recording, StepEnd
from gradscope.testing import recording, step_event
from gradscope.traces import Operand, Operation

NAMES = ("fc.weight", "fc.bias")


def found(made: Recording) -> list[Finding]:
    return list(ClearedGradient().analyze(made))


def test_fires_once_when_every_step_finds_its_gradients_cleared() -> None:
    (finding,) = found(recording(events={step: [step_event(cleared=NAMES)] for step in range(5)}))
    assert (finding.step, finding.sites) == (0, NAMES)
    assert finding.evidence.startswith("2 of 2 parameters")


def test_fires_on_the_sick_one_of_two_optimizers() -> None:
    sound = LoopEvent(EventKind.STEP, optimizer="SGD", parameters=7)
    (finding,) = found(recording(events={0: [sound, step_event(cleared=NAMES)], 1: [sound]}))
    assert finding.scope == "2 of 2 parameters"


def test_fires_from_the_share_on() -> None:
    half = recording(events={0: [step_event(parameters=4, cleared=NAMES)]})
    assert found(half)
    assert not list(ClearedGradient(share=0.6).analyze(half))


def test_silent_when_a_few_gradients_are_cleared_to_freeze_parameters() -> None:
    assert not found(recording(events={step: [step_event(parameters=20, cleared=NAMES)] for step in range(5)}))


def test_silent_when_one_bad_batch_is_dropped() -> None:
    events = {step: [step_event(cleared=NAMES if step == 3 else ())] for step in range(5)}
    assert not found(recording(events=events))


def test_silent_when_a_scaler_skips_the_step() -> None:
    skipped = {0: [LoopEvent(EventKind.BACKWARD)]}
    assert not found(recording(events=skipped, ends={0: StepEnd.CLEARED}))


def accumulation(operations: list[Operation], *, micro_batches: int = 4, cycles: int = 3) -> Recording:
    """Gradients are cleared before each micro-batch."""
    steps = micro_batches * cycles
    stepping = range(micro_batches - 1, steps, micro_batches)
    ends = {step: StepEnd.OPTIMIZER if step in stepping else StepEnd.CLEARED for step in range(steps)}
    events = {step: [step_event()] if step in stepping else [LoopEvent(EventKind.BACKWARD)] for step in range(steps)}
    weight = {"fc.weight": 1.0}
    return recording(steps=steps, ends=ends, events=events, operations=operations, parameter=weight, count=4)


X, WEIGHT, LOSS = Operand((2, 2)), Operand((4,), None, "fc.weight", has_graph=True), Operand((), 0, has_graph=True)
DIVIDED = [
    Operation(0, "mse_loss", operands=(X, WEIGHT), has_graph=True),
    Operation(1, "div", operands=(LOSS,), has_graph=True, is_loss=True, backward=2),
]


def test_warns_when_micro_batches_are_cleared_one_by_one() -> None:
    (finding,) = found(accumulation(DIVIDED))
    assert (finding.severity, finding.step) == (Severity.WARNING, 0)
    assert finding.message.startswith("of 4 backwards for each SGD.step(), only the last one counts")


def test_warns_when_a_scaler_multiplies_what_was_divided() -> None:
    scaled = Operation(2, "mul", operands=(Operand((), 1, has_graph=True), Operand(())), is_loss=True, backward=3)
    assert found(accumulation([DIVIDED[0], replace(DIVIDED[1], is_loss=False), scaled]))


def test_silent_when_the_loss_is_not_divided_as_in_attacks() -> None:
    assert not found(accumulation([replace(DIVIDED[0], is_loss=True, backward=1)]))


def test_silent_when_the_input_requires_grad() -> None:
    attacked = replace(DIVIDED[0], operands=(X._replace(has_graph=True), WEIGHT))
    assert not found(accumulation([attacked, DIVIDED[1]]))


def test_silent_when_weights_are_moved_for_a_second_look() -> None:
    assert not found(accumulation([*DIVIDED, Operation(2, "add_", operands=(WEIGHT,), written="fc.weight")]))


def test_silent_when_the_program_adds_up_gradients_itself() -> None:
    assert not found(accumulation([*DIVIDED, Operation(2, "clone", operands=(Operand((4,)),))]))


def test_silent_before_the_pattern_has_shown_itself() -> None:
    assert not found(accumulation(DIVIDED, cycles=2))
