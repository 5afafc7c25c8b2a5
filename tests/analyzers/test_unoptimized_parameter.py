from typing import Any

from gradscope.analyzers.unoptimized_parameter import UnoptimizedParameter
from gradscope.findings import Finding, Severity
from gradscope.inventory import Inventory, OptimizerInfo, Orphan
from gradscope.records import StepEnd
from gradscope.testing import recording

HEAD = OptimizerInfo("SGD", ("head.weight",), steps=5)
BODY = Orphan("body.weight", "body", (2, 3), step=1)


def found(optimizer: OptimizerInfo, *orphans: Orphan, **options: Any) -> list[Finding]:
    given: dict[str, Any] = {"complete": True} | options
    return list(UnoptimizedParameter().analyze(recording(inventory=Inventory((optimizer,), orphans), **given)))


def test_fires_on_a_parameter_in_no_optimizer() -> None:
    (finding,) = found(HEAD, BODY)
    assert (finding.severity, finding.step, finding.sites) == (Severity.WARNING, 1, ("body.weight",))
    assert "while SGD stepped 1 other parameter 5 times" in finding.evidence


def test_fires_with_a_note_on_a_part_in_evaluation_mode() -> None:
    quiet = Orphan("critic.weight", "critic", (2, 3), quiet=True)
    loud, note = found(HEAD, BODY, quiet)
    assert [loud.severity, note.severity] == [Severity.WARNING, Severity.NOTE]
    assert loud.cause != note.cause


def test_silent_on_what_a_stale_optimizer_explains() -> None:
    assert not found(OptimizerInfo("SGD", ("head.weight",), steps=5, foreign=1, idle=((2, 3),)), BODY)


def test_silent_where_no_optimizer_trains_any_of_the_model() -> None:
    assert not found(OptimizerInfo("SGD", steps=5, foreign=1), BODY)
    assert not found(OptimizerInfo("SGD", ("head.weight",), steps=1), BODY)


def test_silent_before_the_end_and_where_weights_are_moved_by_hand() -> None:
    assert not found(HEAD, BODY, complete=False)
    assert not found(HEAD, BODY, ends={0: StepEnd.MANUAL})
    assert not found(HEAD)
