"""What a trace notes of each operation: its operands and their origin, its values, and what belongs together."""

import copy
import linecache
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as users write it
from torch.utils.checkpoint import checkpoint

import gradscope
from gradscope.traces import Operation


class Chain(nn.Module):
    """first, then something, then last."""

    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.middle = nn.Linear(4, 4), nn.Linear(4, 1), middle

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(self.middle(self.first(x)))
        return output


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(x)
        return x * x * factor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return 2 * x * gradient, None


class Hidden(torch.autograd.Function):
    """Its forward calls no torch function."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def operations(middle: Callable[[Tensor], Tensor], loss: Callable[[Tensor], Tensor] | None = None) -> Any:
    model = Chain(middle)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, analyzers=[]) as scope:
        output = model(torch.randn(3, 4))
        (output.square().mean() if loss is None else loss(output)).backward()
        optimizer.step()
    assert scope.recording.lost == ()
    return scope.recording.operations


def named(made: Any, name: str) -> Operation:
    found: Operation = next(operation for operation in made if operation.name == name)
    return found


def way_to_the_last_layer(middle: Callable[[Tensor], Tensor]) -> list[str]:
    """Names of the operations on the way from the first layer to the last one, that one left out."""
    made = operations(middle)
    last = next(operation for operation in made if "last.weight" in operation.parameters)
    names, sources = [], last.sources
    while sources:
        names.append(made[sources[0]].name)
        sources = made[sources[0]].sources[-1:]
    return names[::-1]


def into_a_view(x: Tensor) -> Tensor:
    room = torch.zeros(3, 8)
    room[:, :4].copy_(x)
    return room[:, :4]


def assigned(x: Tensor) -> Tensor:
    room = torch.zeros(3, 4)
    room[:] = x
    return room


def without_grad(x: Tensor) -> Tensor:
    room = torch.zeros(3, 4)
    with torch.no_grad():
        room.copy_(x)
    return room


def data_assigned(x: Tensor) -> Tensor:
    room = torch.zeros(3, 4)
    room.data = x
    return room


@pytest.mark.parametrize(
    ("middle", "names"),
    [
        (lambda x: x.detach(), ["linear", "detach"]),
        (lambda x: x.data, ["linear", "data"]),
        (lambda x: torch.from_numpy(x.detach().numpy()), ["linear", "detach", "numpy"]),
        (lambda x: torch.tensor(x.detach().numpy().copy()), ["linear", "detach", "numpy", "tensor"]),
        (lambda x: torch.tensor(np.array(x.tolist()), dtype=torch.float32), ["linear", "tolist", "tensor"]),
        (lambda x: torch.FloatTensor(x.tolist()), ["linear", "tolist"]),
        (lambda x: torch.ones(3, 4) * x.sum().item(), ["linear", "sum", "item", "mul"]),
        (lambda x: torch.full((3, 4), float(x.detach().sum())), ["linear", "detach", "sum", "__float__", "full"]),
        (nn.Parameter, ["linear", "Parameter"]),
        (lambda x: copy.deepcopy(x.detach()), ["linear", "detach", "__deepcopy__"]),
        (lambda x: x.new_tensor(x.tolist()), ["linear", "tolist", "new_tensor"]),
        (into_a_view, ["linear", "copy_", "__getitem__"]),
        (assigned, ["linear", "__setitem__"]),
        (without_grad, ["linear", "copy_"]),
        (data_assigned, ["linear", "data_"]),
        (lambda x: Square.apply(x, 2.0), ["linear", "Square"]),
        (Hidden.apply, ["linear", "Hidden"]),
        (lambda x: 1 - x.detach() // 2, ["linear", "detach", "floor_divide", "rsub"]),
        (lambda x: 1 / (x.pow_(2) + 1), ["linear", "pow_", "add", "div"]),
        (lambda x: torch.div(x, 2, rounding_mode="floor"), ["linear", "div(rounding_mode)"]),
        (lambda x: checkpoint(torch.tanh, x, use_reentrant=True), ["linear", "tanh"]),
        (lambda x: torch.zeros_like(x) + x, ["linear", "add"]),
    ],
)
def test_values_are_followed_from_the_first_layer_to_the_last(
    middle: Callable[[Tensor], Tensor], names: list[str]
) -> None:
    assert way_to_the_last_layer(middle) == names


def test_shapes_tell_nothing_about_values() -> None:
    assert named(operations(lambda x: torch.ones_like(x) * x), "ones_like").operands == ()


def test_a_function_of_the_users_is_one_operation() -> None:
    made = operations(lambda x: Square.apply(x, 2.0))
    assert [operation.name for operation in made] == ["linear", "Square", "linear", "square", "mean"]
    (operand,) = made[1].operands
    assert (operand.name, operand.operation, made[1].has_graph, made[1].shapes) == ("x", 0, True, ((3, 4),))
    assert made[1].gradient is not None


def test_what_a_function_captures_is_an_operand() -> None:
    scale = nn.Linear(4, 4)

    class Captures(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * model.last.weight

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * model.last.weight

    model = Chain(Captures.apply)
    with gradscope.watch(nn.ModuleList([model, scale]), analyzers=[]) as scope:
        model.train()(torch.randn(3, 4)).mean().backward()
    assert "0.last.weight" in named(scope.recording.operations, "Captures").parameters


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_operations_in_a_checkpoint_have_its_line() -> None:
    made = operations(lambda x: checkpoint(torch.tanh, x.detach(), use_reentrant=True))
    inside = named(made, "tanh")
    assert (inside.function, inside.grad_enabled, inside.has_graph) == ("CheckpointFunction", False, False)
    assert inside.location is not None
    assert "checkpoint(torch.tanh" in inside.location.source


def test_the_indices_of_topk_have_no_graph_though_its_values_do() -> None:
    made = operations(lambda x: x.topk(4, dim=1).indices.float())
    assert named(made, "topk").has_graph
    assert not named(made, "float").operands[0].has_graph


def test_results_of_integers_are_not_differentiable() -> None:
    made = operations(lambda x: nn.functional.one_hot(x.argmax(1), 4).float())
    assert [named(made, name).differentiable for name in ("argmax", "one_hot", "float")] == [False, False, True]


def test_values_and_gradients_of_operations() -> None:
    made = operations(lambda x: x.clamp(-0.5, 0.5), lambda y: y.mul(2.0).sum())
    clamped, doubled, summed = named(made, "clamp"), named(made, "mul"), named(made, "sum")
    assert clamped.values is not None
    assert -0.5 <= clamped.values.low <= clamped.values.high <= 0.5
    assert doubled.gradient == (1.0, 1.0)
    assert summed.gradient == (1.0, 1.0)
    assert doubled.operands[0].operation is not None
    assert made[doubled.operands[0].operation].gradient == (2.0, 2.0)


def test_where_nan_and_infinity_were() -> None:
    made = operations(lambda x: x, lambda y: (y * 0).sqrt().sum() + (y * 0).log().mean())
    logarithm, root = named(made, "log").values, named(made, "sqrt").values
    assert logarithm == (float("-inf"), float("-inf"))
    assert root == (0.0, 0.0)
    zeros = [operation for operation in made if operation.name == "mul"]
    assert [operation.gradient is None or operation.gradient.finite for operation in zeros] == [False, False]


def test_a_view_holds_what_it_is_a_view_of() -> None:
    made = operations(lambda x: x.clamp(0.5, 0.5).reshape(4, 3).T)
    assert named(made, "T").values == named(made, "clamp").values == (0.5, 0.5)


def test_a_location_has_the_source_and_the_place_of_the_expression_in_it() -> None:
    made = operations(lambda x: x.relu().detach())
    place = named(made, "detach").location
    assert place is not None
    assert place.source[place.column : place.end] == "x.relu().detach()"
    assert place.file.endswith("test_ledger.py")


def test_parameters_written_in_place_are_named_but_not_by_an_optimizer() -> None:
    first = nn.Linear(4, 4)
    model = nn.Sequential(first, nn.Linear(4, 1))

    class Mine(torch.optim.Optimizer):
        def __init__(self) -> None:
            super().__init__(model.parameters(), {})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.add_(parameter.grad, alpha=-0.1)

    optimizer = Mine()
    with gradscope.watch(model, analyzers=[]) as scope:
        loss = model(torch.randn(3, 4)).mean()
        first.bias.data.mul_(0.9)
        loss.backward()
        optimizer.step()
    assert {operation.written for operation in scope.recording.operations} == {"", "0.bias"}


def test_the_loss_is_found_whoever_calls_backward() -> None:
    model = nn.Linear(4, 1)
    with gradscope.watch(model, analyzers=[]) as scope:
        torch.autograd.backward(model(torch.randn(3, 4)).square().mean())
    assert [operation.name for operation in scope.recording.operations if operation.is_loss] == ["mean"]


def test_an_encoder_in_evaluation_keeps_its_fast_path() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    teacher = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    student, x = nn.Linear(16, 16), torch.randn(2, 5, 16)

    def target() -> Tensor:
        with torch.no_grad():
            result: Tensor = teacher(x)
            return result

    bare = target()
    with gradscope.watch(student, analyzers=[]) as scope:
        output = student(x)
        watched = target()
        (output - watched).square().mean().backward()
    assert torch.equal(bare, watched)
    assert [operation.name for operation in scope.recording.operations] == ["linear", "sub", "square", "mean"]


def test_a_trace_on_request_sees_every_optimizer_of_the_cycle() -> None:
    pair = nn.ModuleDict({"generator": nn.Linear(2, 4), "critic": nn.Linear(4, 1)})
    of_generator = torch.optim.SGD(pair["generator"].parameters(), lr=0.1)
    of_critic = torch.optim.SGD(pair["critic"].parameters(), lr=0.1)
    with gradscope.watch(pair, analyzers=[]) as scope:
        for i in range(6):
            if i == 2:
                scope.trace_next()
            fake = pair["generator"](torch.randn(3, 2))
            of_critic.zero_grad()
            pair["critic"](fake.detach()).mean().backward()
            of_critic.step()
            of_generator.zero_grad()
            pair["critic"](fake).mean().backward()
            of_generator.step()
    recording = scope.recording
    assert [sorted(paths) for _, paths in sorted(recording.stepped.items())] == [
        ["critic.bias", "critic.weight"],
        ["generator.bias", "generator.weight"],
        ["critic.bias", "critic.weight"],
    ]
    assert {operation.step for operation in recording.operations} == {4, 5, 6}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_what_is_compiled_while_the_trace_runs_is_compiled_without_it() -> None:
    graphs: list[Any] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model) as scope:
        for _ in range(3):
            optimizer.zero_grad()
            output = model(torch.randn(3, 4))
            loss = torch.compile(lambda y: y.square().mean(), backend=backend, fullgraph=True)(output)
            loss.backward()
            optimizer.step()
    assert scope.report().healthy
    assert graphs


def test_a_failure_knows_the_operation_and_where_its_operands_were_made() -> None:
    model = Chain(lambda x: x[:, :2])
    with pytest.raises(RuntimeError), gradscope.watch(model) as scope:
        model(torch.randn(3, 4))
    failure = scope.recording.failure
    assert failure is not None
    assert failure.failed is not None
    assert [operand.shape for operand in failure.failed.operands] == [(3, 2), (1, 4), (1,)]
    source = failure.failed.operands[0].operation
    assert source is not None
    assert scope.recording.operations[source].name == "__getitem__"
    assert failure.failed.operands[1].parameter == "last.weight"


def noisy(x: Tensor) -> Tensor:
    float(x.sum())
    return x


@pytest.mark.parametrize("watched", [False, True])
def test_a_warning_of_torch_names_the_users_line_once(watched: bool) -> None:
    """A warning belongs to the frame that calls; from a frame of ours it would come again in the next step."""
    model = Chain(noisy)
    globals().pop("__warningregistry__", None)
    torch.set_warn_always(True)  # else torch says it once in a process
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        with gradscope.watch(model, analyzers=[]) if watched else nullcontext():
            for _ in range(3):
                loss = F.mse_loss(model(torch.randn(3, 4)), torch.randn(3))
                loss.backward()
    torch.set_warn_always(False)
    lines = [linecache.getline(each.filename, each.lineno).strip() for each in caught]
    assert all(Path(each.filename).name == "test_ledger.py" for each in caught), [each.filename for each in caught]
    assert sorted(lines) == ["float(x.sum())", "loss = F.mse_loss(model(torch.randn(3, 4)), torch.randn(3))"]


def test_a_fault_of_ours_in_the_backward_of_a_traced_step_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    model = Chain(torch.tanh)
    with gradscope.watch(model, analyzers=[]) as scope:
        loss = model(torch.randn(3, 4)).mean()
        monkeypatch.setattr("gradscope.hooks.transfer.Readback.measure", broken)
        loss.backward()
    assert scope.recording.lost == ("the trace failed: ZeroDivisionError('ours')",)
    assert scope.recording.operations == ()


def test_a_fault_of_ours_after_a_forward_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    model = Chain(torch.tanh)
    monkeypatch.setattr("gradscope.hooks.tracer.Tracer.stop_if_over", broken)
    with gradscope.watch(model, analyzers=[]) as scope:
        model(torch.randn(3, 4)).mean().backward()
    assert any("ours" in note for note in scope.recording.lost)
