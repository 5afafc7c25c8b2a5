"""Programs that step twice on one gradient, and those that only look like it."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradscope
from gradscope.findings import Severity

STEPS = 8

Program = Callable[[], gradscope.Scope]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def loss_of(net: nn.Module) -> Tensor:
    output: Tensor = net(torch.randn(5, 6))
    return output.square().mean()


class Trunk(nn.Module):
    """Two heads on one trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.actor, self.critic = nn.Linear(6, 8), nn.Linear(8, 2), nn.Linear(8, 1)

    def losses(self) -> tuple[Tensor, Tensor]:
        hidden = self.trunk(torch.randn(5, 6)).relu()
        return self.actor(hidden).square().mean(), self.critic(hidden).square().mean()

    def optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        act = torch.optim.SGD([*self.trunk.parameters(), *self.actor.parameters()], lr=0.01)
        return act, torch.optim.Adam([*self.trunk.parameters(), *self.critic.parameters()], lr=1e-3)


class Trainer:
    """A loop in a class."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.optimizer = net, torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def backward(self) -> None:
        self.optimizer.zero_grad()
        loss_of(self.net).backward()

    def update(self) -> None:
        self.optimizer.step()


def twice_with_adam() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.Adam(net.parameters())
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
            optimizer.step()
    return scope


def twice_in_a_class() -> gradscope.Scope:
    trainer = Trainer(network())
    with gradscope.watch(trainer.net) as scope:
        for _ in range(STEPS):
            trainer.backward()
            trainer.update()
            trainer.update()
    return scope


def a_step_in_each_iteration_and_a_backward_in_every_second() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for i in range(STEPS):
            loss = loss_of(net)
            if i % 2 == 0:
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
    return scope


@pytest.mark.parametrize(
    ("program", "step"),
    [(twice_with_adam, 0), (twice_in_a_class, 0), (a_step_in_each_iteration_and_a_backward_in_every_second, 1)],
)
def test_a_repeated_step_is_named_first_and_alone(program: Program, step: int) -> None:
    scope = program()
    (finding,) = scope.findings
    assert (finding.analyzer, finding.step, finding.scope) == ("repeated-step", step, "4 of 4 parameters")
    assert finding.location is not None
    assert finding.location.source in ("optimizer.step()", "self.optimizer.step()")


def test_a_step_that_is_repeated_once_in_a_long_run_is_found() -> None:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net, every=1) as scope:
        for i in range(60):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
            if i == 40:
                optimizer.step()
    assert [(finding.analyzer, finding.step) for finding in scope.findings] == [("repeated-step", 40)]


def actor_and_critic_on_one_backward() -> gradscope.Scope:
    net = Trunk()
    act, criticise = net.optimizers()
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            act.zero_grad()
            criticise.zero_grad()
            sum(net.losses(), torch.zeros(())).backward()
            act.step()
            criticise.step()
    return scope


def tied_weights_collected_by_module() -> gradscope.Scope:
    net = nn.ModuleDict({"embed": nn.Embedding(20, 8), "head": nn.Linear(8, 20, bias=False)})
    net["head"].weight = net["embed"].weight
    optimizer = torch.optim.SGD([*net["embed"].parameters(), *net["head"].parameters()], lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            optimizer.zero_grad()
            net["head"](net["embed"](torch.randint(20, (5,)))).square().mean().backward()
            optimizer.step()
    return scope


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group")
@pytest.mark.parametrize(
    ("program", "site"),
    [(actor_and_critic_on_one_backward, "trunk.weight"), (tied_weights_collected_by_module, "embed.weight")],
)
def test_a_parameter_that_is_stepped_twice_is_named_first_and_alone(program: Program, site: str) -> None:
    (finding,) = program().findings
    assert (finding.analyzer, finding.step, finding.sites[0]) == ("duplicate-parameter", 0, site)
    assert finding.location is not None


healthy: list[Program] = []


def looks_alike(program: Program) -> Program:
    healthy.append(program)
    return program


def loop(net: nn.Module, step: Callable[[], Any], steps: int = STEPS, **options: Any) -> gradscope.Scope:
    with gradscope.watch(net, **options) as scope:
        for _ in range(steps):
            step()
    return scope


@looks_alike
def lbfgs_without_line_search() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=4)
    inputs = torch.randn(5, 6)

    def closure() -> float:
        optimizer.zero_grad()
        loss = net(inputs).square().mean()
        loss.backward()
        return float(loss.detach())

    return loop(net, lambda: optimizer.step(closure))


@looks_alike
def a_closure_that_the_optimizer_calls_as_lightning_does() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.Adam(net.parameters())

    def closure() -> float:
        loss = loss_of(net)
        optimizer.zero_grad()
        loss.backward()
        return float(loss.detach())

    return loop(net, lambda: optimizer.step(closure))


@looks_alike
def a_step_before_any_gradient_to_please_the_scheduler() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    optimizer.step()

    def step() -> None:
        optimizer.zero_grad()
        loss_of(net).backward()
        optimizer.step()
        optimizer.zero_grad()
        optimizer.step()

    return loop(net, step)


@looks_alike
def a_step_on_gradients_that_were_zeroed_in_place() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    def step() -> None:
        loss_of(net).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        optimizer.step()

    return loop(net, step)


class SharpnessAware(torch.optim.Optimizer):
    """An optimizer that steps another one over the same groups."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__(parameters, {})
        self.base = torch.optim.SGD(self.param_groups, lr=0.01)

    def step(self, closure: Callable[[], Tensor]) -> None:  # type: ignore[override]
        tensors = [tensor for group in self.param_groups for tensor in group["params"]]
        with torch.no_grad():
            moves = [0.05 * tensor.grad / (tensor.grad.norm() + 1e-12) for tensor in tensors]
            torch._foreach_add_(tensors, moves)
        self.zero_grad()
        with torch.enable_grad():
            closure().backward()
        with torch.no_grad():
            torch._foreach_sub_(tensors, moves)
        self.base.step()


@looks_alike
def an_optimizer_that_steps_another_one() -> gradscope.Scope:
    net = network()
    optimizer = SharpnessAware(net.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss_of(net).backward()
        optimizer.step(lambda: loss_of(net))

    return loop(net, step)


class LookAhead(torch.optim.Optimizer):
    """Steps the optimizer it wraps, and now and then pulls the weights back."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, {})
        self.inner, self.slow = inner, [p.detach().clone() for g in inner.param_groups for p in g["params"]]

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self.inner.step(closure)
        for slow, fast in zip(self.slow, self.param_groups[0]["params"], strict=True):
            slow.lerp_(fast.detach(), 0.5)


@looks_alike
def a_wrapped_optimizer() -> gradscope.Scope:
    net = network()
    optimizer = LookAhead(torch.optim.Adam(net.parameters()))

    def step() -> None:
        optimizer.zero_grad()
        loss_of(net).backward()
        optimizer.step()

    return loop(net, step)


@looks_alike
def optimizers_that_share_a_trunk_and_step_on_losses_of_their_own() -> gradscope.Scope:
    net = Trunk()
    both = net.optimizers()

    def step() -> None:
        for i, optimizer in enumerate(both):
            optimizer.zero_grad()
            net.losses()[i].backward()
            optimizer.step()

    return loop(net, step, 30)


@looks_alike
def an_optimizer_that_takes_over() -> gradscope.Scope:
    net = network()
    kinds = (torch.optim.Adam, torch.optim.SGD)
    with gradscope.watch(net) as scope:
        for kind in kinds:
            optimizer = kind(net.parameters(), lr=0.001)
            for _ in range(STEPS):
                optimizer.zero_grad()
                loss_of(net).backward()
                optimizer.step()
    return scope


@looks_alike
def a_new_optimizer_in_each_epoch() -> gradscope.Scope:
    net = network()

    def epoch() -> None:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()

    return loop(net, epoch)


@looks_alike
def accumulation_with_a_last_step_for_what_is_left() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    def epoch() -> None:
        for i in range(4):
            (loss_of(net) / 2).backward()
            if i % 2:
                optimizer.step()
                optimizer.zero_grad()
        optimizer.step()
        optimizer.zero_grad()

    return loop(net, epoch)


@looks_alike
def an_optimizer_for_each_parameter_that_steps_in_the_backward() -> gradscope.Scope:
    net = network()
    owned = {id(parameter): torch.optim.SGD([parameter], lr=0.01) for parameter in net.parameters()}

    def update(parameter: Tensor) -> None:
        owned[id(parameter)].step()
        owned[id(parameter)].zero_grad()

    for parameter in net.parameters():
        parameter.register_post_accumulate_grad_hook(update)
    return loop(net, lambda: loss_of(net).backward(), 30)


@looks_alike
def gradients_that_come_from_elsewhere() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        gradients = torch.autograd.grad(loss_of(net), [*net.parameters()])
        for parameter, gradient in zip(net.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()

    return loop(net, step)


@looks_alike
def a_penalty_for_which_no_module_runs() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(net).backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.stack([parameter.square().sum() for parameter in net.parameters()]).sum().backward()
        optimizer.step()

    return loop(net, step)


@looks_alike
def a_generator_and_a_critic_in_turn() -> gradscope.Scope:
    pair = nn.ModuleDict({"generator": nn.Linear(4, 8), "critic": nn.Linear(8, 1)})
    generate = torch.optim.Adam(pair["generator"].parameters(), lr=1e-3)
    criticise = torch.optim.Adam(pair["critic"].parameters(), lr=1e-3)

    def step() -> None:
        criticise.zero_grad()
        pair["critic"](pair["generator"](torch.randn(16, 4)).detach()).square().mean().backward()
        criticise.step()
        generate.zero_grad()
        pair["critic"](pair["generator"](torch.randn(16, 4))).square().mean().backward()
        generate.step()

    return loop(pair, step)


@looks_alike
def parts_that_learn_in_turn_under_one_optimizer() -> gradscope.Scope:
    net = nn.ModuleDict({"a": nn.Linear(6, 2), "b": nn.Linear(6, 2)})
    optimizer = torch.optim.Adam(net.parameters())
    turn = iter(range(1000))

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        net["ab"[next(turn) % 2]](torch.randn(5, 6)).square().mean().backward()
        optimizer.step()

    return loop(net, step)


@pytest.mark.parametrize("program", healthy, ids=lambda program: program.__name__)
def test_what_only_looks_like_a_second_step_raises_no_alarm(program: Program) -> None:
    torch.manual_seed(0)
    scope = program()
    alarms = [str(finding) for finding in scope.findings if finding.severity is not Severity.NOTE]
    assert not alarms, "\n".join(alarms)
    assert scope.report().steps >= STEPS
