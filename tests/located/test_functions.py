"""Backward passes written by hand: the line that applies a wrong one is named; what is different on purpose is not."""

from typing import Any

import torch
from located.harness import Case, Cases, Chain, check, fit
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from gradscope import Scope

WRONG = "incorrect-gradient"

cases = Cases()


class Product(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return gradients[0] @ weight.T, gradients[0].T @ x


@cases.located(WRONG, "Product", "weight", "transposed")
def square_transpose() -> Scope:
    class Net(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8) / 3)

        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            h = Product.apply(h, self.weight)  # <- here
            return self.decoder(h)

    return fit(Net())


class Square(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return gradients[0] * x


@cases.located(WRONG, "Square", "factor of 2")
def missing_factor() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            return self.decoder(Square.apply(self.encoder(x)))  # <- here

    return fit(Net())


class Shifted(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor) -> Tensor:
        return x - shift

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0], gradients[0].sum(0)


@cases.located(WRONG, "Shifted", "shift", "sign")
def wrong_sign() -> Scope:
    class Net(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(8))

        def forward(self, x: Tensor) -> Any:
            return self.decoder(Shifted.apply(self.encoder(x), self.shift))  # <- here

    return fit(Net(), optimizer=torch.optim.Adam)


class Scaled(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return x * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        _, scale = ctx.saved_tensors
        return gradients[0] * scale, None


@cases.located(WRONG, "Scaled", "scale", "None")
def gradient_that_is_missing() -> Scope:
    class Net(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(8))

        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            return self.decoder(Scaled.apply(h, self.scale))  # <- here

    return fit(Net())


class Sigmoid(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.sigmoid()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *_gradients: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return y * (1 - y)


@cases.located(WRONG, "Sigmoid")
def chain_rule_forgotten() -> Scope:
    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return Sigmoid.apply(x)  # <- here

    return fit(nn.Sequential(nn.Linear(6, 8), Gate(), nn.Linear(8, 2)))


class Swish(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        gate = x.sigmoid()
        return gradients[0] * (gate + x * gate * (1 - gate))


@cases.silent
def correct_function() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            return self.decoder(Swish.apply(self.encoder(x)))

    return fit(Net())


class Round(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0]


@cases.silent
def straight_through_round() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            return self.decoder(Round.apply(self.encoder(x) * 8) / 8)

    return fit(Net())


class Binary(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return gradients[0] * (x.abs() <= 1)


@cases.silent
def straight_through_sign_with_clipping() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            return self.decoder(Binary.apply(self.encoder(x)))

    return fit(Net(), optimizer=torch.optim.Adam)


class Reversal(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return -ctx.strength * gradients[0], None


@cases.silent
def gradient_reversal() -> Scope:
    class Net(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.domain = nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            return self.decoder(h) + self.domain(Reversal.apply(h, 0.3))

    return fit(Net())


class Spike(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return gradients[0] / (1 + 10 * x.abs()) ** 2


@cases.silent
def spiking_neurons_with_a_surrogate() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            potential, spikes = torch.zeros(len(x), 8), torch.zeros(len(x), 8)
            for _ in range(3):
                potential = 0.9 * potential + self.encoder(x) - spikes
                spikes = Spike.apply(potential)
            return self.decoder(spikes)

    return fit(Net())


class Clipped(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0].clamp(-0.001, 0.001)


@cases.silent
def gradient_clipped_in_the_graph() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            return self.decoder(Clipped.apply(self.encoder(x)))

    return fit(Net())


@cases.parametrized()
def test_the_application_is_located(case: Case) -> None:
    check(case)
