from gradscope.analyzers.broken_tie import BrokenTie
from gradscope.findings import Finding
from gradscope.inventory import BrokenTie as Broken
from gradscope.inventory import Inventory
from gradscope.records import ParameterInfo
from gradscope.testing import recording


def found(*ties: Broken, head: int = 5) -> list[Finding]:
    learns = {"embed": 5, "head": head}
    parameters = [ParameterInfo(f"{name}.weight", name, contributions=times) for name, times in learns.items()]
    return list(BrokenTie().analyze(recording(parameters=parameters, inventory=Inventory(ties=ties))))


def test_fires_on_a_tie_that_was_lost() -> None:
    (finding,) = found(Broken("embed.weight", "head.weight", step=3, lost=True))
    assert (finding.step, finding.sites) == (3, ("embed.weight", "head.weight"))
    assert "were one parameter and are two since step 3" in finding.message


def test_fires_on_a_copy_where_a_tie_is_usual() -> None:
    (finding,) = found(Broken("embed.weight", "head.weight"))
    assert "are two copies of one weight" in finding.message


def test_silent_where_one_of_the_two_does_not_learn() -> None:
    assert not found(Broken("embed.weight", "head.weight"), head=0)


def test_silent_without_a_broken_tie() -> None:
    assert not found()
