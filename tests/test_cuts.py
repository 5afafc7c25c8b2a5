"""Ways to cut a graph on real small models, and programs that look as if they did."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import gradscope
from gradscope.findings import Finding, Severity

Program = Callable[[], gradscope.Scope]
Middle = Callable[[Tensor], Tensor]


class Chain(nn.Module):
    def __init__(self, middle: Middle) -> None:
        super().__init__()
        self.encoder, self.middle = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8)), middle
        self.decoder = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.decoder(self.middle(self.encoder(x)))
        return output


def fit(net: nn.Module, loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer | None = None) -> gradscope.Scope:
    made = optimizer or torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            made.zero_grad()
            loss().backward()
            made.step()
    return scope


def through(middle: Middle) -> gradscope.Scope:
    net = Chain(middle)
    return fit(net, lambda: net(torch.randn(5, 6)).square().mean())


def assigned(x: Tensor) -> Tensor:
    made = torch.zeros(5, 8)
    with torch.no_grad():
        made[:, :] = x
    return made


def normalized_choice(x: Tensor) -> Tensor:
    scaled = x / x.detach().abs().max()
    return scaled.argmax(1, keepdim=True).float().expand(5, 8)


DETACHED: dict[str, tuple[Middle, str]] = {
    "deepcopy": (lambda x: copy.deepcopy(x.detach()), ".detach() after"),
    "parameter": (nn.Parameter, "nn.Parameter() after"),
    "new_tensor": (lambda x: x.new_tensor(x), ".new_tensor() after"),
    "floats": (lambda x: torch.tensor([[float(v) for v in row] for row in x]), "float() after"),
    "item": (lambda x: torch.ones(5, 8) * x.mean().item(), ".item() after"),
    "memory": (lambda x: torch.from_numpy(x.detach().numpy()), ".numpy() after"),
    "numpy": (lambda x: torch.tensor(np.tanh(x.detach().numpy())), "come back at torch.tensor()"),
    "numpy_out_of_sight": (lambda x: torch.from_numpy(np.tanh(x.detach().numpy())), "come back at linear"),
    "assignment": (assigned, "an assignment to elements after 'encoder.2' ran without grad mode"),
    "inference_mode": (lambda x: torch.inference_mode()(torch.tanh)(x).clone(), "tanh after"),
    "mask": (lambda x: (x > 0) * x.detach(), ".detach() after"),
}

UNDIFFERENTIABLE: dict[str, tuple[Middle, str]] = {
    "choice": (normalized_choice, "argmax after"),
    "indices": (lambda x: torch.zeros(5, 8).scatter(1, x.topk(3).indices, 1.0), "the indices of topk after"),
    "largest": (lambda x: functional.one_hot(x.max(1).indices, 8).float(), "the indices of max after"),
    "comparison": (lambda x: torch.where(x > 0, 1.0, 0.0), "gt after"),
    "cast": (lambda x: x.to(torch.int32).float(), "to after"),
    "normal": (lambda x: torch.distributions.Normal(x, 1.0).sample(), "sample() after"),
    "uniform": (lambda x: torch.distributions.Uniform(x, x + 1).sample(), "sample() after"),
    "categorical": (
        lambda x: functional.one_hot(torch.distributions.Categorical(logits=x).sample(), 8).float(),
        "sample() after",
    ),
    "round": (lambda x: (3 * x).round(), "round after"),
    "sign": (torch.sign, "sign after"),
    "rounding_mode": (lambda x: torch.div(x, 0.1, rounding_mode="floor"), "div(rounding_mode) after"),
    "bernoulli": (lambda x: torch.bernoulli(x.sigmoid()), "bernoulli after"),
    "torch_normal": (lambda x: torch.normal(x, 1.0), "normal after"),
}


def only(scope: gradscope.Scope) -> Finding:
    assert len(scope.findings) == 1, scope.report()
    return scope.findings[0]


@pytest.mark.filterwarnings("ignore:To copy construct", "ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize("name", DETACHED)
def test_a_cut_is_named(name: str) -> None:
    torch.manual_seed(0)
    middle, words = DETACHED[name]
    finding = only(through(middle))
    assert finding.analyzer == "detached-tensor"
    assert words in finding.message
    assert len(finding.sites) == 4
    assert finding.location is not None
    assert finding.location.file.endswith("test_cuts.py")


@pytest.mark.parametrize("name", UNDIFFERENTIABLE)
def test_what_has_no_derivative_is_named(name: str) -> None:
    torch.manual_seed(0)
    middle, words = UNDIFFERENTIABLE[name]
    finding = only(through(middle))
    assert finding.analyzer == "non-differentiable-op"
    assert finding.message.startswith(words)
    assert len(finding.sites) == 4
    assert finding.location is not None
    assert finding.location.file.endswith("test_cuts.py")


def checkpointed(*, detached: bool) -> gradscope.Scope:
    net = nn.ModuleDict({"first": nn.Linear(6, 8), "block": nn.Linear(8, 8), "last": nn.Linear(8, 2)})

    def loss() -> Tensor:
        hidden = net["first"](torch.randn(5, 6))
        hidden = checkpoint(net["block"], hidden.detach() if detached else hidden, use_reentrant=True)
        output: Tensor = net["last"](hidden)
        return output.square().mean()

    return fit(net, loss)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_reentrant_checkpoint_without_an_input_that_requires_grad_is_named() -> None:
    messages = {finding.message.partition(" cuts")[0] for finding in checkpointed(detached=True).findings}
    assert messages == {".detach() after 'first'", "checkpoint(use_reentrant=True) around module 'block'"}


def test_a_generator_trained_on_what_is_detached_is_told_its_own_cut() -> None:
    generator, critic = nn.Linear(4, 8), nn.Linear(8, 1)
    generate, criticise = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (generator, critic))
    with gradscope.watch({"generator": generator, "critic": critic}) as scope:
        for _ in range(8):
            criticise.zero_grad()
            functional.softplus(critic(generator(torch.randn(16, 4)).detach())).mean().backward()
            criticise.step()
            generate.zero_grad()
            fake = generator(torch.randn(16, 4)).data
            functional.softplus(-critic(fake)).mean().backward()
            generate.step()
    assert any(".data after 'generator'" in finding.message for finding in scope.findings)


programs: list[Program] = []


def healthy(program: Program) -> Program:
    programs.append(program)
    return program


@healthy
def checkpoint_that_works() -> gradscope.Scope:
    return checkpointed(detached=False)


@healthy
def averaged_teacher_that_the_optimizer_owns() -> gradscope.Scope:
    student = nn.Linear(8, 8)
    net = nn.ModuleDict({"student": student, "teacher": copy.deepcopy(student), "predictor": nn.Linear(8, 8)})

    def loss() -> Tensor:
        with torch.no_grad():
            for slow, fast in zip(net["teacher"].parameters(), student.parameters(), strict=True):
                slow.mul_(0.9).add_(fast, alpha=0.1)
            goal = net["teacher"](torch.randn(16, 8))
        return functional.mse_loss(net["predictor"](student(torch.randn(16, 8))), goal)

    return fit(net, loss)


class Quantized(nn.Module):
    """A vector-quantized autoencoder, whose codebook is averaged or learned."""

    def __init__(self, *, averaged: bool) -> None:
        super().__init__()
        self.encoder, self.decoder, self.codes = nn.Linear(6, 4), nn.Linear(4, 6), nn.Embedding(16, 4)
        self.averaged = averaged

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.encoder(x)
        chosen = torch.cdist(hidden, self.codes.weight).argmin(1)
        codes = self.codes(chosen)
        loss = functional.mse_loss(hidden, codes.detach())
        if self.averaged:
            with torch.no_grad():
                for code in chosen.unique():
                    self.codes.weight.data[code].lerp_(hidden[chosen == code].mean(0), 0.1)
        else:
            loss = loss + functional.mse_loss(codes, hidden.detach())
        output: Tensor = self.decoder(hidden + (codes - hidden).detach())
        return loss + functional.mse_loss(output, x)


@healthy
def averaged_codebook() -> gradscope.Scope:
    net = Quantized(averaged=True)
    return fit(net, lambda: net(torch.randn(12, 6)))


@healthy
def learned_codebook() -> gradscope.Scope:
    net = Quantized(averaged=False)
    return fit(net, lambda: net(torch.randn(12, 6)))


@healthy
def gan_whose_fakes_are_made_once() -> gradscope.Scope:
    generator, critic = nn.Linear(4, 8), nn.Linear(8, 1)
    generate, criticise = (torch.optim.Adam(net.parameters(), lr=1e-3) for net in (generator, critic))
    with gradscope.watch({"generator": generator, "critic": critic}) as scope:
        for _ in range(8):
            fake = generator(torch.randn(16, 4))
            criticise.zero_grad()
            functional.softplus(critic(fake.detach())).mean().backward()
            criticise.step()
            generate.zero_grad()
            functional.softplus(-critic(fake)).mean().backward()
            generate.step()
    return scope


@healthy
def advantage_without_a_graph() -> gradscope.Scope:
    net = nn.ModuleDict({"policy": nn.Linear(4, 2), "value": nn.Linear(4, 1)})

    def loss() -> Tensor:
        states = torch.randn(12, 4)
        policy, value = torch.distributions.Categorical(logits=net["policy"](states)), net["value"](states).squeeze(1)
        actions = policy.sample()
        advantage = actions.float() - value.detach()
        scores: Tensor = policy.log_prob(actions) * advantage
        return functional.mse_loss(value, actions.float()) - scores.mean()

    return fit(net, loss)


@healthy
def experts_chosen_by_topk() -> gradscope.Scope:
    net = nn.ModuleDict({"experts": nn.ModuleList(nn.Linear(6, 6) for _ in range(3)), "gate": nn.Linear(6, 3)})

    def loss() -> Tensor:
        x, mixed = torch.randn(12, 6), torch.zeros(12, 6)
        weights, chosen = net["gate"](x).softmax(-1).topk(1)
        for number, expert in enumerate(net["experts"].children()):
            rows = (chosen[:, 0] == number).nonzero().squeeze(1)
            mixed = mixed.index_add(0, rows, expert(x[rows]) * weights[rows])
        return mixed.square().mean()

    return fit(net, loss)


@healthy
def tower_whose_result_is_logged_before_targets_come_in() -> gradscope.Scope:
    net, log = nn.ModuleDict({"aside": nn.Linear(6, 2), "body": nn.Linear(6, 2)}), list[Any]()

    def loss() -> Tensor:
        x = torch.randn(5, 6)
        log.append(net["aside"](x).detach().numpy())
        return functional.mse_loss(net["body"](x), torch.tensor(np.ones((5, 2), np.float32)))

    return fit(net, loss)


ESTIMATORS: dict[str, Middle] = {
    "round": lambda x: x + (x.round() - x).detach(),
    "sign": lambda x: x.clamp(-1, 1) + (x.sign() - x.clamp(-1, 1)).detach(),
    "hard_gumbel": lambda x: functional.one_hot(x.argmax(1), 8) - x.softmax(1).detach() + x.softmax(1),
    "library_gumbel": lambda x: functional.gumbel_softmax(x, hard=True),
    "fake_quantize": lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127),
    "mask": lambda x: x * (torch.rand_like(x) > 0.5) * (x.abs() < 3),
    "reparameterization": lambda x: torch.distributions.Normal(x, 1.0).rsample(),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_gradient_that_goes_around_is_no_cut(name: str) -> None:
    torch.manual_seed(0)
    assert not through(ESTIMATORS[name]).findings


@pytest.mark.parametrize("program", programs, ids=lambda program: program.__name__)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_only_looks_like_a_cut_raises_no_alarm(program: Program, seed: int) -> None:
    torch.manual_seed(seed)
    alarms = [str(finding) for finding in program().findings if finding.severity is not Severity.NOTE]
    assert not alarms, "\n".join(alarms)
