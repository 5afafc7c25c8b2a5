from dataclasses import replace

from gradscope.analyzers.unregistered_parameter import UnregisteredParameter
from gradscope.findings import Finding
from gradscope.inventory import Inventory, Stray
from gradscope.testing import recording
from gradscope.traces import Location, Operand, Operation


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


def test_it_names_the_line_that_uses_them() -> None:
    known, lost = Operand((8, 8), parameter="first.weight", has_graph=True), Operand((8, 8), has_graph=True)
    made_before = Operand((8, 8), operation=0, has_graph=True)
    trace = [
        Operation(index, "linear", location=Location("train.py", line), operands=(operand,))
        for index, (line, operand) in enumerate([(3, known), (4, made_before), (5, lost), (6, lost)])
    ]
    stray = Stray("layers[0].weight", "", "layers", "list", (8, 8))
    for strays, line in (((stray,), "train.py:5"), ((Stray("scales[0]", "", "scales", "list", (3,)),), "None")):
        made = recording(inventory=Inventory(strays=strays), operations=trace, complete=True)
        (finding,) = UnregisteredParameter().analyze(made)
        assert str(finding.location) == line


def exponential(**changes: object) -> list[Finding]:
    """What is found of a scalar whose exponential multiplies a matrix."""
    scale = Operand((), has_graph=True)
    exp = Operand((), operation=0, has_graph=True)
    first = replace(Operation(0, "exp", operands=(scale,), shapes=((),)), **changes)  # type: ignore[arg-type]
    trace = [first, Operation(1, "mul", operands=(exp, Operand((5, 4))), shapes=((5, 4),))]
    stray = Stray("scale", "", "scale", "tensor", (), plain=True)
    made = recording(inventory=Inventory(strays=(stray,)), operations=trace, complete=True)
    return list(UnregisteredParameter().analyze(made))


def test_fires_on_a_tensor_of_which_a_function_is_used_as_a_weight() -> None:
    assert exponential()
    assert not exponential(operands=(Operand((), parameter="other", has_graph=True),))
    assert not exponential(operands=(Operand((9,), has_graph=True),))
    assert not exponential(operands=(Operand((), has_graph=True), Operand((), has_graph=False, operation=3)))


def used(name: str, *shapes: tuple[int, ...], result: tuple[int, ...]) -> list[Finding]:
    """What is found of a plain tensor of the first shape that is combined with others."""
    operands = tuple(Operand(shape, has_graph=not i) for i, shape in enumerate(shapes))
    stray = Stray("gain", "", "gain", "tensor", shapes[0], plain=True)
    trace = [Operation(0, name, operands=operands, shapes=(result,))]
    made = recording(inventory=Inventory(strays=(stray,)), operations=trace, complete=True)
    return list(UnregisteredParameter().analyze(made))


def test_fires_on_a_tensor_that_is_used_as_a_weight() -> None:
    (finding,) = used("mul", (8,), (5, 8), result=(5, 8))
    assert finding.fix == "make it an nn.Parameter"
    assert used("matmul", (6, 2), (5, 6), result=(5, 2))


def test_silent_on_a_tensor_that_may_be_data() -> None:
    assert not used("sub", (9, 2), (2,), result=(9, 2))
    assert not used("linear", (9, 2), (8, 2), result=(9, 8))
    assert not used("cat", (9, 2), (3, 2), result=(12, 2))
    assert not used("__getitem__", (9, 2), (4,), result=(4, 2))
    assert not used("mean", (9, 2), result=())
    assert not found(Stray("gain", "", "gain", "tensor", (8,), plain=True))
