from gradscope.analyzers.unregistered_parameter import UnregisteredParameter
from gradscope.findings import Finding
from gradscope.inventory import Inventory, Stray
from gradscope.testing import recording


def found(*strays: Stray, complete: bool = True) -> list[Finding]:
    return list(UnregisteredParameter().analyze(recording(inventory=Inventory(strays=strays), complete=complete)))


def test_fires_once_for_each_container() -> None:
    layers = [Stray(f"net.layers[{i}].weight", "net", "layers", step=i) for i in (2, 1)]
    scales = Stray("scales['a']", "", "scales", "dict", (3,))
    first, second = found(*layers, scales)
    assert (first.step, first.sites) == (1, ("net.layers[2].weight", "net.layers[1].weight"))
    assert "'layers' of 'net' is a plain list, so the model does not know of the 2 parameters in it" in first.message
    assert "nn.ModuleDict" in second.fix
    assert first.cause != second.cause


def test_silent_before_the_end_and_where_there_is_none() -> None:
    assert not found(Stray("layers[0].weight", "", "layers"), complete=False)
    assert not found()
