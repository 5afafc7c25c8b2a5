"""Operations without a derivative, or with one that is zero, between parameters and the loss."""

from typing import Any

import torch
from located.harness import Case, Cases, Chain, check, failing, fit
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Normal
from torch.nn import functional as F  # noqa: N812  as users write it

import gradscope
from gradscope import Scope

BREAKS = "non-differentiable-op"
STARVE = "4 of 8 parameters"
GATE = "2 of 10 parameters"

cases = Cases()


class Gated(Chain):
    """A chain with a gate that is computed from the input."""

    def __init__(self, wide: int = 8) -> None:
        super().__init__()
        self.gate = nn.Linear(6, wide)


class Coded(Chain):
    """A chain whose decoder reads codes from a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 8)


@cases.located(BREAKS, "argmax", "softmax", STARVE)
def argmax_to_one_hot() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            choice = self.encoder(x).argmax(dim=1)  # <- here
            return self.decoder(F.one_hot(choice, 8).float())

    return fit(Net())


@cases.located(BREAKS, "argmax", "4 of 9 parameters")
def argmax_into_an_embedding() -> Scope:
    class Net(Coded):
        def forward(self, x: Tensor) -> Any:
            code = torch.argmax(self.encoder(x), dim=-1)  # <- here
            return self.decoder(self.table(code))

    return fit(Net(), optimizer=torch.optim.Adam)


@cases.located(BREAKS, "argmin", "4 of 8 parameters")
def nearest_code_without_straight_through() -> Scope:
    class Net(Chain):
        codes: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("codes", torch.randn(16, 8))

        def forward(self, x: Tensor) -> Any:
            distances = torch.cdist(self.encoder(x), self.codes)
            nearest = distances.argmin(1)  # <- here
            return self.decoder(self.codes[nearest])

    return fit(Net())


@cases.located(BREAKS, "gt", GATE, "'gate'")
def mask_by_comparison() -> Scope:
    class Net(Gated):
        def forward(self, x: Tensor) -> Any:
            mask = (self.gate(x) > 0).float()  # <- here
            return self.decoder(self.encoder(x) * mask)

    return fit(Net())


@cases.located(BREAKS, "gt", GATE)
def where_between_two_constants() -> Scope:
    class Net(Gated):
        def forward(self, x: Tensor) -> Any:
            scale = torch.where(self.gate(x) > 0, 1.0, 0.1)  # <- here
            return self.decoder(self.encoder(x) * scale)

    return fit(Net())


@cases.located(BREAKS, "long", "4 of 9 parameters")
def cast_to_long() -> Scope:
    class Net(Coded):
        def forward(self, x: Tensor) -> Any:
            position = self.encoder(x).sigmoid().mean(1) * 7
            code = position.long()  # <- here
            return self.decoder(self.table(code))

    return fit(Net())


@cases.located(BREAKS, "int after 'encoder", STARVE)
def cast_to_int_and_back() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            levels = (self.encoder(x) * 10).int()  # <- here
            return self.decoder(levels / 10)

    return fit(Net())


@cases.located(BREAKS, "to after 'encoder", STARVE)
def cast_by_to() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            levels = (self.encoder(x) * 127).to(torch.int8)  # <- here
            return self.decoder(levels.float() / 127)

    return fit(Net())


@cases.located(BREAKS, STARVE)
def one_hot_of_rounding() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            level = self.encoder(x).sigmoid().sum(1)
            code = F.one_hot(level.round().long().clamp(0, 7), 8)  # <- here
            return self.decoder(code.float())

    return fit(Net())


@cases.located(BREAKS, "topk", "'router'", "2 of 4 parameters")
def indices_of_topk() -> Scope:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router = nn.Linear(6, 4)
            self.table = nn.Parameter(torch.randn(4, 8))
            self.head = nn.Linear(8, 2, bias=False)

        def forward(self, x: Tensor) -> Any:
            _, chosen = self.router(x).topk(1, dim=1)  # <- here
            return self.head(self.table[chosen.squeeze(1)])

    return fit(Net())


@cases.located(BREAKS, "sort", GATE)
def indices_of_sort() -> Scope:
    class Net(Gated):
        def forward(self, x: Tensor) -> Any:
            order = torch.sort(self.gate(x), dim=1)[1]  # <- here
            return self.decoder(self.encoder(x).gather(1, order))

    return fit(Net())


@cases.located(BREAKS, "max", "4 of 9 parameters")
def indices_of_max() -> Scope:
    class Net(Coded):
        def forward(self, x: Tensor) -> Any:
            best = self.encoder(x).max(1)  # <- here
            return self.decoder(self.table(best.indices))

    return fit(Net())


@cases.located(BREAKS, "bucketize", "4 of 9 parameters")
def bucketize() -> Scope:
    class Net(Coded):
        def forward(self, x: Tensor) -> Any:
            position = self.encoder(x).mean(1)
            code = torch.bucketize(position, torch.linspace(-1, 1, 7))  # <- here
            return self.decoder(self.table(code))

    return fit(Net())


@cases.located(BREAKS, "multinomial", "4 of 9 parameters")
def multinomial() -> Scope:
    class Net(Coded):
        def forward(self, x: Tensor) -> Any:
            chances = self.encoder(x).softmax(1)
            code = torch.multinomial(chances, 1).squeeze(1)  # <- here
            return self.decoder(self.table(code))

    return fit(Net())


@cases.located(BREAKS, "sample", "log_prob", "4 of 9 parameters")
def categorical_sample_without_log_prob() -> Scope:
    net = Coded()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            policy = Categorical(logits=net.encoder(torch.randn(5, 6)))
            action = policy.sample()  # <- here
            value = net.decoder(net.table(action))
            optimizer.zero_grad()
            (-value.mean()).backward()
            optimizer.step()
    return scope


@cases.located(BREAKS, "rsample", "2 of 4 parameters")
def normal_sample_instead_of_rsample() -> Scope:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(6, 8)
            self.decoder = nn.Linear(4, 6)

        def forward(self, x: Tensor) -> Any:
            mean, spread = self.encoder(x).chunk(2, dim=1)
            z = Normal(mean, spread.exp()).sample()  # <- here
            return self.decoder(z)

    net = Net()
    x = torch.randn(5, 6)
    return fit(net, lambda: F.mse_loss(net(x), x))


@cases.located(BREAKS, "sample", GATE)
def bernoulli_gates() -> Scope:
    class Net(Gated):
        def forward(self, x: Tensor) -> Any:
            keep = Bernoulli(logits=self.gate(x)).sample()  # <- here
            return self.decoder(self.encoder(x) * keep)

    return fit(Net())


@cases.located(BREAKS, "argmax", "8 of 8 parameters")
def accuracy_as_the_loss() -> Scope:
    net = Chain()

    def loss() -> Any:
        scores = net.decoder(net.encoder(torch.randn(5, 6)))
        right = scores.argmax(1) == torch.randint(2, (5,))  # <- here
        return (1 - right.float().mean()).requires_grad_()

    return fit(net, loss)


@cases.located(BREAKS, "argmax", "softmax")
def loss_of_an_argmax_that_raises_in_backward() -> Scope:
    net = Chain()

    def loss() -> Tensor:
        prediction = net.decoder(net.encoder(torch.randn(5, 6))).argmax(1)  # <- here
        return F.mse_loss(prediction.float(), torch.rand(5))

    return failing(net, loss)


@cases.parametrized()
def test_the_operation_is_located(case: Case) -> None:
    check(case)
