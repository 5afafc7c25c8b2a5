"""Operations whose derivative is zero: rounding and its like, without a way around them."""

from typing import Any

import torch
from located.harness import Case, Cases, Chain, check, fit
from torch import Tensor, nn

from gradscope import Scope

FLAT = "non-differentiable-op"
STARVE = "4 of 8 parameters"
GATE = "2 of 10 parameters"

cases = Cases()


class Gated(Chain):
    """A chain with a gate that is computed from the input."""

    def __init__(self, wide: int = 8) -> None:
        super().__init__()
        self.gate = nn.Linear(6, wide)


@cases.located(FLAT, "round", "straight-through", STARVE)
def rounding() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            levels = torch.round(self.encoder(x) * 16)  # <- here
            return self.decoder(levels / 16)

    return fit(Net())


@cases.located(FLAT, "sign", STARVE)
def binary_activation() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            h = h.sign()  # <- here
            return self.decoder(h)

    return fit(Net(), optimizer=torch.optim.Adam)


@cases.located(FLAT, "floor", GATE)
def floor_of_a_gate() -> Scope:
    class Net(Gated):
        def forward(self, x: Tensor) -> Any:
            gate = self.gate(x).sigmoid()
            hard = (gate + 0.5).floor()  # <- here
            return self.decoder(self.encoder(x) * hard)

    return fit(Net())


@cases.located(FLAT, "ceil", STARVE)
def ceiling() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            return self.decoder(torch.ceil(self.encoder(x)))  # <- here

    return fit(Net())


@cases.located(FLAT, "trunc", STARVE)
def truncation_in_place() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            h.trunc_()  # <- here
            return self.decoder(h)

    return fit(Net())


@cases.located(FLAT, "div", STARVE)
def division_with_a_rounding_mode() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            bins = torch.div(self.encoder(x), 0.25, rounding_mode="floor")  # <- here
            return self.decoder(bins * 0.25)

    return fit(Net())


@cases.located(FLAT, "long", GATE)
def integer_division() -> Scope:
    class Net(Gated):
        def forward(self, x: Tensor) -> Any:
            shift = self.gate(x).mul(4).long()  # <- here
            return self.decoder(self.encoder(x) + shift // 2)

    return fit(Net())


@cases.located(FLAT, "floor", "2 of 4 parameters", "'1'")
def rounding_layer_in_a_sequence() -> Scope:
    class Steps(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return torch.floor(x * 4) / 4  # <- here

    return fit(nn.Sequential(nn.Linear(6, 8), Steps(), nn.Linear(8, 2)))


@cases.located(FLAT, "bernoulli", GATE)
def coin_thrown_with_learned_chances() -> Scope:
    class Net(Gated):
        def forward(self, x: Tensor) -> Any:
            keep = torch.bernoulli(self.gate(x).sigmoid())  # <- here
            return self.decoder(self.encoder(x) * keep)

    return fit(Net())


@cases.silent
def fractional_part_keeps_its_derivative() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            phase = self.encoder(x)
            return self.decoder(phase - phase.floor() + torch.remainder(phase, 2.0))

    return fit(Net())


@cases.silent
def straight_through_sign_by_hand() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            soft = h.tanh()
            return self.decoder(soft + h.sign().detach() - soft.detach())

    return fit(Net())


@cases.parametrized()
def test_the_step_function_is_located(case: Case) -> None:
    check(case)
