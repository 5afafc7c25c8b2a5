from typing import Any

from gradscope.analyzers.stale_optimizer import StaleOptimizer
from gradscope.findings import Finding
from gradscope.inventory import Inventory, OptimizerInfo, Orphan
from gradscope.records import Call, ParameterInfo, StepEnd
from gradscope.testing import recording

LEFT = Orphan("fc.weight", "fc", (2, 3), step=1), Orphan("fc.bias", "fc", (2,), step=2)
SHAPES = (2, 3), (2,)


def found(
    *optimizers: OptimizerInfo, orphans: tuple[Orphan, ...] = LEFT, double: bool = False, **options: Any
) -> list[Finding]:
    given: dict[str, Any] = {"complete": True, "calls": {"fc": Call.GRAD}} | options
    inventory = Inventory(optimizers, orphans, double=double)
    return list(StaleOptimizer().analyze(recording(inventory=inventory, **given)))


def test_fires_on_an_optimizer_of_a_copy() -> None:
    (finding,) = found(OptimizerInfo("SGD", steps=5, foreign=2, idle=SHAPES))
    assert (finding.step, finding.sites) == (1, ("fc.weight", "fc.bias"))
    assert "'fc.weight' and 1 more are in no optimizer" in finding.message


def test_fires_on_a_head_that_was_made_anew_with_another_size() -> None:
    assert found(OptimizerInfo("SGD", ("body.weight",), steps=5, foreign=2, idle=((7, 3), (7,))))


def test_fires_on_a_weight_that_became_two() -> None:
    made = Orphan("fc.original0", "fc", (2, 1)), Orphan("fc.original1", "fc", (2, 3))
    assert found(OptimizerInfo("SGD", ("fc.bias",), steps=5, foreign=1, idle=((2, 3),)), orphans=made)


def test_fires_on_parameters_that_were_replaced() -> None:
    (finding,) = found(OptimizerInfo("SGD", ("body.weight",), steps=5, replaced=("fc.bias",)))
    assert finding.sites == ("fc.bias",)


def test_fires_on_a_model_that_never_ran() -> None:
    held = OptimizerInfo("SGD", ("fc.weight",), steps=5)
    idle = ParameterInfo("fc.weight", "fc", optimizer_steps=5)
    (finding,) = found(held, orphans=(), double=True, calls=None, parameters=[idle])
    assert "of a model that never ran" in finding.message


def test_silent_on_a_model_that_ran_or_moved_or_had_gradients() -> None:
    held = OptimizerInfo("SGD", ("fc.weight",), steps=5)
    idle = ParameterInfo("fc.weight", "fc", optimizer_steps=5)
    fed = ParameterInfo("fc.weight", "fc", optimizer_steps=5, contributions=5)
    assert not found(held, orphans=(), double=True, parameters=[idle])
    assert not found(held, orphans=(), double=True, calls=None, parameters=[fed])
    moved = {"fc.weight": 1.0}
    assert not found(held, orphans=(), double=True, calls=None, parameters=[idle], update=moved)
    assert not found(held, orphans=(), calls=None, parameters=[idle])


def test_silent_on_another_models_optimizer() -> None:
    assert not found(OptimizerInfo("SGD", steps=5, foreign=2))
    assert not found(OptimizerInfo("SGD", steps=5, foreign=9, idle=SHAPES))


def test_silent_on_tensors_of_other_dimensions() -> None:
    assert not found(OptimizerInfo("SGD", steps=5, foreign=2, idle=((2,), (2,))))
    assert not found(OptimizerInfo("SGD", ("body.weight",), steps=5, foreign=3, idle=(*SHAPES, (4,))))


def test_silent_after_one_step_and_before_the_end() -> None:
    held = OptimizerInfo("SGD", steps=5, foreign=2, idle=SHAPES)
    assert not found(held, complete=False)
    assert not found(OptimizerInfo("SGD", steps=1, foreign=2, idle=SHAPES))


def test_silent_where_weights_are_moved_by_hand() -> None:
    assert not found(OptimizerInfo("SGD", steps=5, foreign=2, idle=SHAPES), ends={2: StepEnd.MANUAL})


def test_silent_where_every_parameter_is_trained() -> None:
    assert not found(OptimizerInfo("SGD", steps=5, foreign=2, idle=SHAPES), orphans=())
