"""Exceptions of the user's forward and backward as data; the exception itself stays as it was."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradscope
from gradscope.traces import Failure


class Transposed(torch.autograd.Function):
    """A linear layer whose backward forgets to transpose the weight's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return gradients[0] @ weight, x.T @ gradients[0]


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 6))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = Transposed.apply(x, self.weight)
        return output


def failed(model: nn.Module, inputs: Tensor) -> tuple[Failure, RuntimeError]:
    with pytest.raises(RuntimeError) as caught, gradscope.watch(model) as scope:
        model(inputs).sum().backward()
    assert scope.recording.failure is not None
    return scope.recording.failure, caught.value


def test_a_backward_that_returns_a_transposed_gradient() -> None:
    failure, error = failed(nn.Sequential(nn.Linear(5, 6), Layer(), nn.Tanh()), torch.randn(4, 5))
    assert (failure.phase, failure.module, failure.operation) == ("backward", "1", "TransposedBackward")
    assert (failure.got, failure.expected) == ((6, 3), (3, 6))
    assert failure.location is not None
    assert failure.location.function == "failed"
    assert "shape-mismatch" in error.__notes__[0]
    assert "Transposed returned a transposed gradient for 'weight'" in error.__notes__[0]


def test_a_container_that_returns_its_childs_output_is_not_blamed_for_the_childs_backward() -> None:
    failure, _ = failed(nn.Sequential(nn.Linear(5, 6), nn.Sequential(Layer())), torch.randn(4, 5))
    assert failure.module == "1.0"


def test_a_forward_whose_widths_do_not_fit() -> None:
    failure, error = failed(nn.Sequential(nn.Linear(5, 6), nn.Linear(4, 2)), torch.randn(3, 5))
    assert (failure.phase, failure.module) == ("forward", "1")
    assert dict(failure.operands) == {"input": (3, 6), "weight": (2, 4), "bias": (2,)}
    assert error.__notes__


def test_an_exception_of_another_kind_gets_no_note() -> None:
    model = nn.Linear(2, 2)

    def loop() -> None:
        with gradscope.watch(model):
            model(torch.randn(3, 2)).sum().backward()
            raise KeyError("mine")

    with pytest.raises(KeyError) as caught:
        loop()
    assert not hasattr(caught.value, "__notes__")


def test_training_can_go_on_after_a_caught_exception() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model) as scope:
        for width in (5, 4, 5):
            optimizer.zero_grad()
            try:
                model(torch.randn(3, width)).sum().backward()
            except RuntimeError:
                continue
            optimizer.step()
    assert [step.index for step in scope.recording.steps] == [0, 1]
    assert scope.findings == ()


def test_a_backward_that_raised_does_not_confuse_the_next() -> None:
    class Raising(torch.autograd.Function):
        raising = True

        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            if Raising.raising:
                raise ValueError("mine")
            return gradients[0]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.b(Raising.apply(self.a(x)))
            return output

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model) as scope:
        with pytest.raises(ValueError, match="mine"):
            model(torch.randn(3, 2)).sum().backward()
        Raising.raising = False
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(3, 2)).sum().backward()
            optimizer.step()
    assert scope.findings == ()
    assert all(info.contributions >= 3 for info in scope.recording.parameters)
