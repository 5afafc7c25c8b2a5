"""The traced step: which operations ran, in which module, on which line, and where their inputs came from."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import gradscope
from gradscope.traces import Operation


class Net(nn.Module):
    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.middle = nn.Linear(4, 4), nn.Linear(4, 1), middle

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(self.middle(self.first(x)))
        return output


def traced(middle: Callable[[Tensor], Tensor], steps: int = 3) -> tuple[Operation, ...]:
    model = Net(middle)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, analyzers=[]) as scope:
        scope.trace_next()
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.randn(3, 4)).square().mean().backward()
            optimizer.step()
    return scope.recording.operations


def test_operations_know_their_module_line_and_inputs() -> None:
    operations = traced(torch.tanh)
    linear, tanh, last, square, mean = operations[-5:]
    assert [op.name for op in operations[-5:]] == ["linear", "tanh", "linear", "square", "mean"]
    assert [op.module for op in (linear, tanh, last, mean)] == ["first", "", "last", ""]
    assert linear.parameters == ("first.weight", "first.bias")
    assert (tanh.sources, last.sources, square.sources) == ((linear.index,), (tanh.index,), (last.index,))
    assert mean.is_loss
    assert not square.is_loss
    assert tanh.location is not None
    assert tanh.location.function == "forward"
    assert tanh.location.file.endswith("test_operations.py")


@pytest.mark.parametrize(
    ("middle", "name"),
    [
        (lambda x: x.detach(), "detach"),
        (lambda x: x.data, "data"),
        (lambda x: torch.tensor(x.tolist()), "tensor"),
        (lambda x: (x > 0).float(), "gt"),
        (lambda x: nn.functional.one_hot(x.argmax(1), 4).float(), "argmax"),
    ],
    ids=["detach", "data", "tolist", "comparison", "argmax"],
)
def test_what_cuts_the_graph_is_seen(middle: Callable[[Tensor], Tensor], name: str) -> None:
    operation = next(op for op in traced(middle) if op.name == name)
    assert not operation.has_graph
    if name != "tensor":
        assert operation.had_graph


def test_a_tensor_that_went_through_numpy_in_the_same_memory_keeps_its_origin() -> None:
    operations = traced(lambda x: torch.from_numpy(x.detach().numpy()))
    last = [op for op in operations if op.parameters == ("last.weight", "last.bias")][-1]
    assert operations[last.sources[0]].name == "numpy"


def test_operations_without_grad_mode_say_so() -> None:
    def middle(x: Tensor) -> Tensor:
        with torch.no_grad():
            return x * 2

    operation = next(op for op in traced(middle) if op.name == "mul")
    assert not operation.grad_enabled


def test_an_in_place_operation_becomes_the_origin_of_its_tensor() -> None:
    operations = traced(lambda x: x.mul_(2))
    last = [op for op in operations if op.parameters == ("last.weight", "last.bias")][-1]
    assert operations[last.sources[0]].name == "mul_"


def test_only_the_first_step_is_traced_unless_asked_for() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model) as scope:
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.randn(3, 2)).mean().backward()
            optimizer.step()
    assert {operation.step for operation in scope.recording.operations} == {0}


def test_the_users_modes_leave_in_the_order_they_entered() -> None:
    class Mine(TorchFunctionMode):
        def __torch_function__(
            self, func: Callable[..., object], types: object, args: tuple[object, ...] = (), kwargs: object = None
        ) -> object:
            return func(*args, **(kwargs or {}))  # type: ignore[arg-type]

    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.device("cpu"), gradscope.watch(model) as scope:
        scope.trace_next()
        for _ in range(3):
            with Mine():
                model(torch.randn(3, 2)).mean().backward()
                optimizer.step()
            with torch.device("cpu"):
                torch.zeros(1)
    assert scope.recording.operations
    assert torch._C._len_torch_function_stack() == 0


def test_compiled_models_are_not_traced() -> None:
    model = nn.Linear(2, 1)
    model.compile(backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model) as scope:
        scope.trace_next()
        for _ in range(3):
            model(torch.randn(3, 2)).mean().backward()
            optimizer.step()
            assert torch._C._len_torch_function_stack() == 0
    assert scope.recording.operations == ()


def test_a_loop_without_an_optimizer_is_traced_too() -> None:
    model = Net(torch.tanh)
    with gradscope.watch(model) as scope:
        scope.trace_next()
        for _ in range(4):
            model.zero_grad()
            model(torch.randn(3, 4)).square().mean().backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    parameter.sub_(parameter.grad)
    operations = scope.recording.operations
    loss = next(op for op in operations if op.is_loss)
    named = [op.name for op in operations[: loss.index + 1]]
    assert named[-5:] == ["linear", "tanh", "linear", "square", "mean"]
