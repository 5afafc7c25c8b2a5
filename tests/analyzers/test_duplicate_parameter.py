from gradscope.analyzers.duplicate_parameter import DuplicateParameter
from gradscope.findings import Finding
from gradscope.inventory import Inventory, OptimizerInfo
from gradscope.records import Recording
from gradscope.testing import recording, step_event


def found(made: Recording) -> list[Finding]:
    return list(DuplicateParameter().analyze(made))


def test_fires_on_a_gradient_that_another_optimizer_has_used() -> None:
    second = step_event(parameters=4, shared=("trunk.weight", "trunk.bias"))
    (finding,) = found(recording(events={2: [step_event(), second], 3: [step_event(), second]}))
    assert (finding.step, finding.scope) == (2, "2 of 4 parameters")
    assert "2 gradients were the same tensors" in finding.evidence


def test_fires_on_an_optimizer_that_holds_a_parameter_twice() -> None:
    twice = OptimizerInfo("Adam", ("embed.weight", "head.bias"), steps=3, first=1, doubled=("embed.weight",))
    (finding,) = found(recording(inventory=Inventory((twice,))))
    assert (finding.step, finding.sites) == (1, ("embed.weight",))
    assert finding.message == "Adam holds 'embed.weight' twice"


def test_silent_on_optimizers_with_gradients_of_their_own() -> None:
    once = OptimizerInfo("Adam", ("embed.weight",), steps=3)
    assert not found(recording(inventory=Inventory((once, once)), events={0: [step_event(), step_event()]}))
