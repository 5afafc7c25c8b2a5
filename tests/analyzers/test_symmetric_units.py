import pytest

from gradscope.analyzers.symmetric_units import SymmetricUnits
from gradscope.findings import Finding, Severity
from gradscope.inventory import Inventory, Likeness
from gradscope.records import Recording
from gradscope.testing import recording

NAMES = ("fc.weight", "out.weight")


def trained(*likenesses: Likeness, complete: bool = True, steps: int = 8, **changes: object) -> Recording:
    given: dict[str, object] = {
        "parameter_gradient": dict.fromkeys(NAMES, 1.0),
        "update": dict.fromkeys(NAMES, 0.01),
    }
    inventory = Inventory(likenesses=likenesses or (Likeness(NAMES[0], 16),))
    return recording(inventory=inventory, complete=complete, steps=steps, **(given | changes))  # type: ignore[arg-type]


def found(made: Recording) -> list[Finding]:
    return list(SymmetricUnits().analyze(made))


def test_fires_once_on_all_layers_whose_units_are_alike() -> None:
    alike = (Likeness(NAMES[0], 16, 1e-8), Likeness(NAMES[1], 16, columns=True))
    (finding,) = found(trained(*alike))
    assert (finding.severity, finding.step, finding.sites) == (Severity.ERROR, 0, NAMES)
    assert "16 rows of 'fc.weight'" in finding.message
    assert "after 8 observed steps that moved them by 8.0e-02" in finding.evidence


def test_fires_from_the_least_number_of_steps_on_and_counts_those_that_were_measured() -> None:
    assert found(trained(steps=5))
    (finding,) = found(trained(update={NAMES[0]: [None, None, *[0.01] * 6]}))
    assert "after 6 observed steps that moved them by 6.0e-02" in finding.evidence


def test_fires_on_columns() -> None:
    (finding,) = found(trained(Likeness(NAMES[1], 20, columns=True)))
    assert "20 columns of 'out.weight'" in finding.message


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("rows that differ by a part of the movement", trained(Likeness(NAMES[0], 16, 1e-3))),
        ("weights that did not move", trained(update=dict.fromkeys(NAMES, 0.0))),
        ("weights that only decay", trained(parameter_gradient=dict.fromkeys(NAMES, 0.0))),
        ("the first steps", trained(steps=4)),
        ("a run that goes on", trained(complete=False)),
        ("weights that are not measured", trained(Likeness("other.weight", 16))),
        ("weights whose gradients are not measured", trained(parameter_gradient={NAMES[1]: 1.0})),
        ("no such weights", recording(complete=True)),
    ],
)
def test_silent_on(name: str, made: Recording) -> None:
    assert not found(made)


def test_thresholds_are_fields() -> None:
    assert not list(SymmetricUnits(steps=9).analyze(trained()))
    assert list(SymmetricUnits(difference=0.1).analyze(trained(Likeness(NAMES[0], 16, 1e-3))))
