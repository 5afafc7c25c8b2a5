"""Graphs cut by a mode, by a write into memory, or in one of several steps: the first operation is named."""

from typing import Any

import pytest
import torch
from located.harness import Case, Cases, Chain, check, failing, fit
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as users write it
from torch.utils.checkpoint import checkpoint

import gradscope
from gradscope import Scope

DETACHED = "detached-tensor"
STARVE = "4 of 8 parameters"

cases = Cases()


@cases.located(DETACHED, "without grad mode", STARVE)
def block_in_forward() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            with torch.no_grad():
                h = F.normalize(h)  # <- here
                h = h * 2
            return self.decoder(h)

    return fit(Net())


@cases.located(DETACHED, "without grad mode", STARVE)
def block_around_the_encoder() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            with torch.no_grad():
                h = self.encoder(x)  # <- here
            return self.decoder(h)

    return fit(Net())


@cases.located(DETACHED, "without grad mode", "2 of 4 parameters", "'extract.linear'")
def decorator_on_a_forward() -> Scope:
    class Extract(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 8)

        @torch.no_grad()
        def forward(self, x: Tensor) -> Any:
            return torch.relu(self.linear(x))  # <- here

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.extract = Extract()
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Any:
            return self.head(self.extract(x))

    return fit(Net())


@cases.located(DETACHED, "without grad mode", STARVE)
def grad_mode_set_off_by_hand() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            torch.set_grad_enabled(False)
            h = self.encoder(x)  # <- here
            torch.set_grad_enabled(True)
            return self.decoder(h)

    return fit(Net())


@cases.located(DETACHED, "without grad mode", STARVE)
def helper_meant_for_evaluation() -> Scope:
    @torch.no_grad()
    def features(net: Chain, x: Tensor) -> Any:
        return net.encoder(x)  # <- here

    net = Chain()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            output = net.decoder(features(net, torch.randn(5, 6)))
            loss = F.cross_entropy(output, torch.randint(2, (5,)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return scope


@cases.located(DETACHED, "without grad mode", STARVE)
def inference_mode_and_clone() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            with torch.inference_mode():
                h = self.encoder(x)  # <- here
            return self.decoder(h.clone())

    return fit(Net())


@cases.located(DETACHED, "checkpoint", "use_reentrant=False", STARVE)
def reentrant_checkpoint_without_an_input_that_requires_grad() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = checkpoint(self.encoder, x, use_reentrant=True)  # <- here
            return self.decoder(h)

    return fit(Net())


@cases.located(DETACHED, "copy_", STARVE)
def cache_filled_without_grad() -> Scope:
    class Net(Chain):
        cache: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("cache", torch.zeros(5, 8))

        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            with torch.no_grad():
                self.cache.copy_(h)  # <- here
            return self.decoder(self.cache.relu())

    return fit(Net())


@cases.located(DETACHED, STARVE)
def cache_filled_through_data() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            out = torch.empty(len(x), 8)
            out[:] = self.encoder(x).data  # <- here
            return self.decoder(out)

    return fit(Net())


@cases.located(DETACHED, STARVE)
def filled_through_data_of_the_target() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            out = torch.empty_like(h)
            out.data.copy_(h)  # <- here
            return self.decoder(out)

    return fit(Net())


@cases.located(DETACHED, "without grad mode", "2 of 4 parameters", "'target")
def target_network_in_the_optimizer_and_never_synchronized() -> Scope:
    nets = nn.ModuleDict({"online": nn.Linear(4, 2), "target": nn.Linear(4, 2)})
    optimizer = torch.optim.Adam(nets.parameters(), lr=1e-3)
    with gradscope.watch(nets) as scope:
        for _ in range(8):
            state, following, reward = torch.randn(16, 4), torch.randn(16, 4), torch.randn(16)
            action = torch.randint(2, (16, 1))
            value = nets["online"](state).gather(1, action).squeeze(1)
            with torch.no_grad():
                goal = reward + 0.9 * nets["target"](following).max(1).values  # <- here
            optimizer.zero_grad()
            F.smooth_l1_loss(value, goal).backward()
            optimizer.step()
    return scope


@cases.located(DETACHED, "detach()", "2 of 4 parameters", "'g")
def generator_detached_in_its_own_step() -> Scope:
    g, d = nn.Linear(4, 6), nn.Linear(6, 1)
    step_g, step_d = torch.optim.Adam(g.parameters(), lr=1e-3), torch.optim.Adam(d.parameters(), lr=1e-3)
    with gradscope.watch({"g": g, "d": d}) as scope:
        for _ in range(7):
            fake = g(torch.randn(8, 4))
            step_d.zero_grad()
            (d(fake.detach()).mean() - d(torch.randn(8, 6)).mean()).backward()
            step_d.step()
            step_g.zero_grad()
            score = d(fake.detach())  # <- here
            (-score.mean()).backward()
            step_g.step()
    return scope


@cases.located(DETACHED, "8 of 8 parameters", "no_grad")
def whole_model_under_no_grad_so_that_backward_raises() -> Scope:
    net = Chain()

    def loss() -> Any:
        with torch.no_grad():
            output = net.decoder(net.encoder(torch.randn(5, 6)))  # <- here
        return output.square().mean()

    return failing(net, loss)


@cases.located(DETACHED, "without grad mode", "6 of 8 parameters")
def all_layers_but_the_last_of_a_loop() -> Scope:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])
            self.head = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Any:
            with torch.set_grad_enabled(not self.training):
                for layer in self.layers:
                    x = torch.relu(layer(x))  # <- here
            return self.head(x)

    return fit(Net())


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@cases.parametrized()
def test_the_cut_is_located(case: Case) -> None:
    check(case)
