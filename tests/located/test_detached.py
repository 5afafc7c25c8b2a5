"""Tensors that leave the graph: the line where they do so is named, with how many parameters starve."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from located.harness import Case, Cases, Chain, check, fit
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as users write it

import gradscope
from gradscope import Scope
from gradscope.findings import Severity

DETACHED = "detached-tensor"
STARVE = "4 of 8 parameters"

cases = Cases()


@cases.located(DETACHED, "detach()", STARVE, "encoder.0.weight")
def detach() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            h = h.detach()  # <- here
            return self.decoder(h)

    return fit(Net())


@cases.located(DETACHED, "detach()", "2 of 6 parameters", "'stem'")
def detach_between_two_others_that_are_harmless() -> Scope:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(6, 8)
            self.body = nn.Linear(8, 8)
            self.head = nn.Linear(8, 2)
            self.seen: list[Tensor] = []

        def forward(self, x: Tensor) -> Any:
            h = torch.relu(self.stem(x))
            self.seen.append(h.detach())
            g = torch.relu(self.body(h.detach()))  # <- here
            scale = g.detach().abs().mean()
            return self.head(g / (scale + 1))

    return fit(Net())


@cases.located(DETACHED, ".data", STARVE)
def data_attribute() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            return self.decoder(h.data * 2)  # <- here

    return fit(Net(), optimizer=torch.optim.Adam)


@cases.located(DETACHED, "item()", "2 of 4 parameters", "'penalty.weight'")
def item_into_the_loss() -> Scope:
    net = nn.ModuleDict({"body": nn.Linear(6, 2), "penalty": nn.Linear(6, 1)})
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    with gradscope.watch(net) as scope:
        for _ in range(7):
            x, y = torch.randn(5, 6), torch.randn(5, 2)
            optimizer.zero_grad()
            penalty = net["penalty"](x).square().mean().item()  # <- here
            loss = F.mse_loss(net["body"](x), y) + penalty
            loss.backward()
            optimizer.step()
    return scope


@cases.located(DETACHED, "float()", "2 of 10 parameters", "gate")
def float_as_a_weight() -> Scope:
    class Net(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(6, 1)

        def forward(self, x: Tensor) -> Any:
            weight = float(torch.sigmoid(self.gate(x)).mean())  # <- here
            return self.decoder(self.encoder(x) * weight)

    return fit(Net())


@cases.located(DETACHED, "numpy", STARVE)
def numpy_round_trip_through_the_same_memory() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            array = self.encoder(x).detach().numpy()  # <- here
            return self.decoder(torch.from_numpy(array))

    return fit(Net())


@cases.located(DETACHED, "numpy", STARVE)
def numpy_copy() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            array = self.encoder(x).detach().cpu().numpy()  # <- here
            return self.decoder(torch.tensor(array.copy()))

    return fit(Net())


@cases.located(DETACHED, "numpy", STARVE, severity=Severity.WARNING)
def numpy_arithmetic() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            array = self.encoder(x).detach().numpy()  # <- here
            array = np.tanh(array) / 2
            return self.decoder(torch.from_numpy(array))  # <- named

    return fit(Net())


@cases.located(DETACHED, "numpy", STARVE, severity=Severity.WARNING)
def numpy_function_called_in_the_loop() -> Scope:
    def standardized(array: Any) -> Any:
        return (array - array.mean(0)) / (array.std(0) + 1e-5)

    net = Chain()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(7):
            features = net.encoder(torch.randn(5, 6))
            array = standardized(features.data.cpu().numpy())  # <- here
            output = net.decoder(torch.as_tensor(array, dtype=torch.float32))  # <- named
            optimizer.zero_grad()
            output.square().mean().backward()
            optimizer.step()
    return scope


@cases.located(DETACHED, "tolist()", STARVE)
def list_and_back() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            rows = self.encoder(x).tolist()  # <- here
            return self.decoder(torch.tensor(rows))

    return fit(Net())


@cases.located(DETACHED, "torch.tensor()", STARVE)
def wrapped_anew() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = torch.tensor(self.encoder(x))  # <- here
            return self.decoder(h)

    return fit(Net())


@cases.located(DETACHED, "torch.tensor()", "4 of 6 parameters")
def losses_collected_in_a_new_tensor() -> Scope:
    net = nn.ModuleDict({"a": nn.Linear(6, 2), "b": nn.Linear(6, 2), "c": nn.Linear(6, 2)})
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    with gradscope.watch(net) as scope:
        for _ in range(7):
            x = torch.randn(5, 6)
            tasks = [net["a"](x).square().mean(), net["b"](x).abs().mean()]
            loss = torch.tensor(tasks).sum() + net["c"](x).square().mean()  # <- here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return scope


@cases.located(DETACHED, "new_tensor()", STARVE)
def new_tensor() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = x.new_tensor(self.encoder(x))  # <- here
            return self.decoder(h)

    return fit(Net())


@cases.located(DETACHED, "Parameter", STARVE)
def parameter_made_in_forward() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = nn.Parameter(self.encoder(x))  # <- here
            return self.decoder(h)

    return fit(Net())


@cases.located(DETACHED, STARVE)
def deep_copy() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = copy.deepcopy(self.encoder(x).detach())  # <- here
            return self.decoder(h)

    return fit(Net())


@cases.located(DETACHED, "detach()", STARVE)
def detach_that_requires_grad_again() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x).detach().requires_grad_()  # <- here
            return self.decoder(h)

    return fit(Net())


@cases.located(DETACHED, "detach_", STARVE)
def detach_in_place() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            h.detach_()  # <- here
            return self.decoder(torch.relu(h))

    return fit(Net())


@cases.located(DETACHED, "detach()", "'cell'", "4 of 6 parameters")
def hidden_state_detached_after_the_cell() -> Scope:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.RNNCell(3, 8)
            self.readout = nn.Linear(8, 2)

        def forward(self, sequence: Tensor) -> Any:
            h = torch.zeros(len(sequence), 8)
            for x in sequence.unbind(1):
                h = self.cell(x, h)
                h = h.detach()  # <- here
            return self.readout(h)

    net = Net()
    return fit(net, lambda: net(torch.randn(5, 4, 3)).square().mean())


@cases.located(DETACHED, "detach()", "2 of 6 parameters", "'embed.")
def detach_of_one_of_two_branches() -> Scope:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(6, 4)
            self.skip = nn.Linear(6, 4)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Any:
            both = [self.embed(x).tanh().detach(), self.skip(x)]  # <- here
            return self.head(torch.cat(both, 1))

    return fit(Net(), optimizer=torch.optim.Adam)


@cases.located(DETACHED, "item()", "8 of 8 parameters")
def loss_wrapped_anew() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            return self.decoder(self.encoder(x))

    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(7):
            loss = F.mse_loss(net(torch.randn(5, 6)), torch.randn(5, 2))
            loss = torch.tensor(loss.item(), requires_grad=True)  # <- here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return scope


@pytest.mark.filterwarnings("ignore:To copy construct", "ignore:Converting a tensor with requires_grad")
@cases.parametrized()
def test_the_cut_is_located(case: Case) -> None:
    check(case)
