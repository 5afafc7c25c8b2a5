"""Programs whose optimizers do not hold what the model has, and those in which that is as it should be."""

import copy
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import gradscope
from gradscope.findings import Severity
from gradscope.watching import watch_everything

STEPS = 8

Program = Callable[[], gradscope.Scope]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def loss_of(net: nn.Module) -> Tensor:
    output: Tensor = net(torch.randn(5, 6))
    return output.square().mean()


def loop(
    net: Any, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], steps: int = STEPS, **options: Any
) -> gradscope.Scope:
    with gradscope.watch(net, **options) as scope:
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
    return scope


def fit(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int = STEPS) -> gradscope.Scope:
    return loop(net, optimizer, lambda: loss_of(net), steps)


# Sick.


def optimizer_of_a_copy() -> gradscope.Scope:
    net = network()
    return fit(net, torch.optim.SGD(copy.deepcopy(net).parameters(), lr=0.01))


def optimizer_of_a_copy_with_adam_and_zeros_kept() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.Adam(copy.deepcopy(net).parameters())
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            net.zero_grad(set_to_none=False)
            loss_of(net).backward()
            optimizer.step()
    return scope


class Trainer:
    """A loop in a class, which makes the head anew after the optimizer."""

    def __init__(self, net: nn.Sequential) -> None:
        self.net, self.optimizer = net, torch.optim.Adam(net.parameters())

    def fit(self) -> gradscope.Scope:
        self.net[2] = nn.Linear(8, 3)
        return fit(self.net, self.optimizer)


def head_made_anew_after_the_optimizer() -> gradscope.Scope:
    return Trainer(network()).fit()


def weight_norm_after_the_optimizer() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    parametrizations.weight_norm(net[0])
    return fit(net, optimizer)


def state_assigned_in_the_middle() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    with gradscope.watch(net) as scope:
        for i in range(STEPS):
            if i == 3:
                net.load_state_dict(copy.deepcopy(net.state_dict()), assign=True)
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
    return scope


def goes_on_with_a_copy() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for i in range(STEPS):
            if i == 3:
                net = copy.deepcopy(net)
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
    return scope


@pytest.mark.parametrize(
    ("program", "step", "site"),
    [
        (goes_on_with_a_copy, 3, "0.weight"),
        (optimizer_of_a_copy, 0, "0.weight"),
        (optimizer_of_a_copy_with_adam_and_zeros_kept, 0, "0.weight"),
        (head_made_anew_after_the_optimizer, 0, "2.weight"),
        (weight_norm_after_the_optimizer, 0, "0.parametrizations.weight.original0"),
        (state_assigned_in_the_middle, 3, "0.weight"),
    ],
)
def test_a_stale_optimizer_is_named_first_and_alone(program: Program, step: int, site: str) -> None:
    scope = program()
    (finding,) = scope.findings
    assert (finding.analyzer, finding.step, finding.sites[0]) == ("stale-optimizer", step, site)
    assert finding.location is not None


def test_a_model_that_was_made_anew_is_found_where_optimizers_tell_what_to_watch() -> None:
    with watch_everything() as everything:
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        net = network()
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
    (report,) = everything.reports().values()
    assert [finding.analyzer for finding in report.findings] == ["stale-optimizer"]
    assert "never ran" in report.findings[0].message


def test_a_model_is_found_though_its_optimizer_has_a_copys_parameters_only() -> None:
    with watch_everything() as everything:
        net = network()
        optimizer = torch.optim.Adam(copy.deepcopy(net).parameters())
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
    (report,) = everything.reports().values()
    assert [finding.analyzer for finding in report.findings] == ["stale-optimizer"]


def test_steps_for_the_sake_of_a_schedule_raise_no_alarm() -> None:
    with watch_everything() as everything:
        net, other = network(), network().eval().requires_grad_(False)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        for _ in range(STEPS):
            other(torch.randn(5, 6))
            optimizer.step()
            schedule.step()
    assert not [finding for report in everything.reports().values() for finding in report.findings]


def test_tensors_of_their_own_are_watched_by_nobody() -> None:
    with watch_everything() as everything:
        net, weights = network(), [torch.zeros(8, 6, requires_grad=True), torch.zeros(8, requires_grad=True)]
        optimizer = torch.optim.Adam(weights)
        for _ in range(STEPS):
            optimizer.zero_grad()
            nn.functional.linear(torch.randn(5, 6), *weights).square().mean().backward()
            optimizer.step()
        loss_of(net)
    assert not everything.reports()
    assert everything.notes == ("2 tensors trained by Adam: in no torch.nn.Module",)


def test_learned_weights_for_a_model_that_stays_as_it_is_raise_no_alarm() -> None:
    with watch_everything() as everything:
        net = network()
        weights = {name: value.detach().clone().requires_grad_() for name, value in net.named_parameters()}
        optimizer = torch.optim.Adam(weights.values())
        for _ in range(STEPS):
            optimizer.zero_grad()
            torch.func.functional_call(net, weights, torch.randn(5, 6)).square().mean().backward()
            optimizer.step()
    assert not [finding for report in everything.reports().values() for finding in report.findings]


def head_alone_in_the_optimizer() -> gradscope.Scope:
    net = network()
    return fit(net, torch.optim.SGD(net[2].parameters(), lr=0.01))


def decoder_forgotten_with_adam() -> gradscope.Scope:
    net = nn.ModuleDict({"encoder": nn.Linear(6, 3), "decoder": nn.Linear(3, 6)})
    optimizer = torch.optim.Adam(net["encoder"].parameters())
    return loop(net, optimizer, lambda: net["decoder"](net["encoder"](torch.randn(5, 6))).square().mean())


class Centers(nn.Module):
    """A loss with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(3, 2))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = (features - self.centers[labels]).square().mean()
        return loss


def with_centers(trained: Callable[[nn.Module, nn.Module], list[nn.Parameter]], steps: int = STEPS) -> gradscope.Scope:
    net, centers = network(), Centers()
    labels = torch.tensor([0, 1, 2, 0, 1])
    optimizer = torch.optim.SGD(trained(net, centers), lr=0.01)
    with gradscope.watch(net) as scope:
        for i in range(steps):
            optimizer.zero_grad()
            centers(net(torch.randn(5, 6)), labels).backward()
            optimizer.step()
            if i == 30:
                centers = Centers()
    return scope


def centers_of_a_loss_forgotten() -> gradscope.Scope:
    return with_centers(lambda net, _: [*net.parameters()])


def centers_of_a_loss_that_is_gone_at_the_end() -> gradscope.Scope:
    return with_centers(lambda net, _: [*net.parameters()], 40)


@pytest.mark.parametrize(
    ("program", "site"),
    [
        (head_alone_in_the_optimizer, "0.weight"),
        (decoder_forgotten_with_adam, "decoder.weight"),
        (centers_of_a_loss_forgotten, "Centers.centers"),
        (centers_of_a_loss_that_is_gone_at_the_end, "Centers.centers"),
    ],
)
def test_an_unoptimized_parameter_is_named_first_and_alone(program: Program, site: str) -> None:
    (finding,) = program().findings
    assert (finding.analyzer, finding.step, finding.sites[0]) == ("unoptimized-parameter", 0, site)
    assert finding.severity is Severity.WARNING


class Listed(nn.Module):
    """Layers in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(6, 6) for _ in range(2)]
        self.out = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        output: Tensor = self.out(x)
        return output


class Mapped(nn.Module):
    """Weights in a dict, deep in the model."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.weights = nn.Linear(6, 8), {"scale": nn.Parameter(torch.ones(8)), "name": "scale"}

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.body(x) * self.weights["scale"]
        return output


class Scaled(nn.Module):
    """A weight that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.gain = nn.Linear(6, 8), torch.ones(8, requires_grad=True)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.body(x) * self.gain
        return output


def a_tensor_that_is_no_parameter() -> gradscope.Scope:
    net = Scaled()
    return fit(net, torch.optim.AdamW(net.parameters()))


def layers_in_a_list() -> gradscope.Scope:
    net = Listed()
    return fit(net, torch.optim.Adam(net.parameters()))


def weights_in_a_dict() -> gradscope.Scope:
    net = nn.Sequential(Mapped(), nn.Linear(8, 2))
    return fit(net, torch.optim.SGD(net.parameters(), lr=0.01))


@pytest.mark.parametrize(
    ("program", "site"),
    [
        (layers_in_a_list, "layers[0].weight"),
        (weights_in_a_dict, "0.weights['scale']"),
        (a_tensor_that_is_no_parameter, "gain"),
    ],
)
def test_an_unregistered_parameter_is_named_first_and_alone(program: Program, site: str) -> None:
    (finding,) = program().findings
    assert (finding.analyzer, finding.step, finding.sites[0]) == ("unregistered-parameter", 0, site)


class Language(nn.Module):
    """An embedding and an output layer, tied or not."""

    def __init__(self, *, tied: bool = True) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.head(self.embed(tokens))
        return output


def tokens() -> Tensor:
    return torch.randint(20, (5, 6))


def tie_lost_by_assigning_a_state() -> gradscope.Scope:
    net = Language()
    with gradscope.watch(net) as scope:
        net.load_state_dict({name: value.clone() for name, value in net.state_dict().items()}, assign=True)
        optimizer = torch.optim.Adam(net.parameters())
        for _ in range(STEPS):
            optimizer.zero_grad()
            net(tokens()).square().mean().backward()
            optimizer.step()
    return scope


def copied_instead_of_tied() -> gradscope.Scope:
    net = Language(tied=False)
    net.head.weight = nn.Parameter(net.embed.weight.detach().clone())
    return loop(net, torch.optim.SGD(net.parameters(), lr=0.01), lambda: net(tokens()).square().mean())


@pytest.mark.parametrize("program", [tie_lost_by_assigning_a_state, copied_instead_of_tied])
def test_a_broken_tie_is_named_first_and_alone(program: Program) -> None:
    (finding,) = program().findings
    assert (finding.analyzer, finding.step, finding.sites) == ("broken-tie", 0, ("embed.weight", "head.weight"))


# Healthy.

healthy: list[Program] = []


def looks_alike(program: Program) -> Program:
    healthy.append(program)
    return program


@looks_alike
def frozen_backbone() -> gradscope.Scope:
    net = network()
    net[0].requires_grad_(False)
    return fit(net, torch.optim.SGD(net[2].parameters(), lr=0.01))


@looks_alike
def generator_and_critic_whose_turn_does_not_come() -> gradscope.Scope:
    pair = nn.ModuleDict({"generator": nn.Linear(4, 8), "critic": nn.Linear(8, 1)})
    generate = torch.optim.Adam(pair["generator"].parameters())
    waiting = torch.optim.Adam(pair["critic"].parameters())
    scope = loop(pair, generate, lambda: pair["critic"](pair["generator"](torch.randn(5, 4))).square().mean())
    waiting.zero_grad()
    return scope


@looks_alike
def one_model_of_two_is_watched() -> gradscope.Scope:
    generator, critic = nn.Linear(4, 8), nn.Linear(8, 1)
    generate, criticise = (torch.optim.Adam(net.parameters()) for net in (generator, critic))
    with gradscope.watch(generator) as scope:
        for _ in range(STEPS):
            criticise.zero_grad()
            critic(generator(torch.randn(5, 4)).detach()).square().mean().backward()
            criticise.step()
            generate.zero_grad()
            critic(generator(torch.randn(5, 4))).square().mean().backward()
            generate.step()
    return scope


@looks_alike
def a_learned_input_beside_a_model_that_is_not_frozen() -> gradscope.Scope:
    net, image = network(), torch.randn(5, 6, requires_grad=True)
    return loop(net, torch.optim.Adam([image]), lambda: net(image).square().mean())


@looks_alike
def an_average_of_the_weights_in_the_model() -> gradscope.Scope:
    pair = nn.ModuleDict({"fast": nn.Linear(6, 2), "slow": nn.Linear(6, 2)})
    optimizer = torch.optim.SGD(pair["fast"].parameters(), lr=0.1)
    with gradscope.watch(pair) as scope:
        for _ in range(STEPS):
            optimizer.zero_grad()
            inputs = torch.randn(5, 6)
            (pair["fast"](inputs) - pair["slow"](inputs)).square().mean().backward()
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(pair["slow"].parameters(), pair["fast"].parameters(), strict=True):
                    slow.lerp_(fast, 0.1)
    return scope


@looks_alike
def a_part_that_is_moved_by_hand() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net[2].parameters(), lr=0.1)
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            net.zero_grad()
            loss_of(net).backward()
            optimizer.step()
            for parameter in net[0].parameters():
                assert parameter.grad is not None
                parameter.data -= 0.1 * parameter.grad
    return scope


@looks_alike
def master_weights_in_full_precision() -> gradscope.Scope:
    net = network().bfloat16()
    masters = [parameter.detach().float().requires_grad_() for parameter in net.parameters()]
    optimizer = torch.optim.SGD(masters, lr=0.1)
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            net.zero_grad()
            net(torch.randn(5, 6).bfloat16()).float().square().mean().backward()
            for master, parameter in zip(masters, net.parameters(), strict=True):
                assert parameter.grad is not None
                master.grad = parameter.grad.float()
            optimizer.step()
            for master, parameter in zip(masters, net.parameters(), strict=True):
                parameter.data.copy_(master.detach())
    return scope


@looks_alike
def moved_to_double_after_the_optimizer_was_made() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    net.double()
    return loop(net, optimizer, lambda: net(torch.randn(5, 6).double()).square().mean())


@looks_alike
def loaded_after_the_optimizer_was_made() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    net.load_state_dict(network().state_dict())
    return fit(net, optimizer)


@looks_alike
def weight_norm_and_pruning_before_the_optimizer() -> gradscope.Scope:
    net = network()
    parametrizations.weight_norm(net[0])
    prune.l1_unstructured(net[2], "weight", 0.5)
    return fit(net, torch.optim.SGD(net.parameters(), lr=0.01))


@looks_alike
def pruning_in_the_middle() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for i in range(STEPS):
            if i == 3:
                prune.l1_unstructured(net[0], "weight", 0.5)
                prune.remove(net[0], "weight")
                optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
    return scope


@looks_alike
def lazy_layers() -> gradscope.Scope:
    net = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    return fit(net, optimizer)


@looks_alike
def an_optimizer_that_lives_in_a_function() -> gradscope.Scope:
    net = network()

    def train() -> None:
        optimizer = torch.optim.Adam(net.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()

    with gradscope.watch(net) as scope:
        for _ in range(100):
            train()
    return scope


@looks_alike
def gradual_unfreezing() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net[2].parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for i in range(STEPS):
            if i == STEPS // 2:
                optimizer.add_param_group({"params": net[0].parameters(), "lr": 0.001})
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
    return scope


@looks_alike
def a_new_head_with_a_new_optimizer() -> gradscope.Scope:
    net = network()
    with gradscope.watch(net) as scope:
        for _ in range(2):
            optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
            for _ in range(STEPS):
                optimizer.zero_grad()
                loss_of(net).backward()
                optimizer.step()
            net[2] = nn.Linear(8, 3)
    return scope


@looks_alike
def a_perceptual_loss_that_is_not_frozen() -> gradscope.Scope:
    net = nn.ModuleDict({"net": nn.Linear(6, 6), "critic": network()})
    net["critic"].eval()
    return loop(
        net, torch.optim.Adam(net["net"].parameters()), lambda: net["critic"](net["net"](torch.randn(5, 6))).sum()
    )


class Holder(nn.Module):
    """Holds parts of the world in a list on purpose."""

    def __init__(self, others: list[nn.Module]) -> None:
        super().__init__()
        self.others, self.body = others, nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.others[0](self.body(x))
        return output


@looks_alike
def a_frozen_teacher_in_a_list() -> gradscope.Scope:
    net = Holder([network().requires_grad_(False)])
    return fit(net, torch.optim.Adam(net.parameters()))


@looks_alike
def a_perceptual_loss_in_a_list() -> gradscope.Scope:
    net = Holder([network().eval()])
    return fit(net, torch.optim.Adam(net.parameters()))


@looks_alike
def another_model_in_a_list_with_an_optimizer_of_its_own() -> gradscope.Scope:
    other = network()
    net = Holder([other])
    optimizers = [torch.optim.Adam(each.parameters()) for each in (net, other)]
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss_of(net).backward()
            for optimizer in optimizers:
                optimizer.step()
    return scope


@looks_alike
def layers_in_a_list_that_the_optimizer_was_given() -> gradscope.Scope:
    net = Listed()
    return fit(
        net, torch.optim.SGD([*net.parameters(), *(p for each in net.layers for p in each.parameters())], lr=0.1)
    )


@looks_alike
def a_list_of_what_is_registered_anyway() -> gradscope.Scope:
    net = Holder([])
    net.head = nn.Linear(6, 2)
    net.others = [net.head]
    return fit(net, torch.optim.Adam(net.parameters()))


@looks_alike
def points_in_attributes_of_the_model() -> gradscope.Scope:
    class Physics(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
            self.x, self.t = (torch.linspace(0, 1, 9).unsqueeze(1).requires_grad_() for _ in range(2))
            self.low, self.high = torch.zeros(2), torch.ones(2)

        def forward(self) -> Tensor:
            points = torch.cat([self.x, self.t], 1)
            value = self.net(2 * (points - self.low) / (self.high - self.low) - 1)
            some = self.x[torch.randperm(9)[:4]]
            (slope,) = torch.autograd.grad(value.sum(), self.x, create_graph=True)
            loss: Tensor = (slope + value * self.t).square().mean() + some.mean()
            return loss

    net = Physics()
    return loop(net, torch.optim.Adam(net.parameters()), net)


@looks_alike
def a_weight_that_is_moved_by_hand() -> gradscope.Scope:
    net = Scaled()
    optimizer = torch.optim.Adam(net.parameters())
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
            assert net.gain.grad is not None
            net.gain.data -= 0.1 * net.gain.grad
            net.gain.grad = None
    return scope


@looks_alike
def points_at_which_the_model_is_differentiated() -> gradscope.Scope:
    class Physics(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.points = (
                nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)),
                [torch.linspace(0, 1, 9)],
            )
            self.points[0] = self.points[0].unsqueeze(1).requires_grad_()

        def forward(self) -> Tensor:
            value = self.net(self.points[0])
            (slope,) = torch.autograd.grad(value.sum(), self.points[0], create_graph=True)
            loss: Tensor = (slope + value).square().mean()
            return loss

    net = Physics()
    return loop(net, torch.optim.Adam(net.parameters()), net)


@looks_alike
def tied_weights() -> gradscope.Scope:
    net = Language()
    return loop(net, torch.optim.Adam(net.parameters()), lambda: net(tokens()).square().mean())


@looks_alike
def untied_weights() -> gradscope.Scope:
    net = Language(tied=False)
    return loop(net, torch.optim.Adam(net.parameters()), lambda: net(tokens()).square().mean())


@looks_alike
def a_tie_that_is_given_up_for_a_fresh_head() -> gradscope.Scope:
    net = Language()
    with gradscope.watch(net) as scope:
        net.head = nn.Linear(8, 20, bias=False)
        optimizer = torch.optim.Adam(net.parameters())
        for _ in range(STEPS):
            optimizer.zero_grad()
            net(tokens()).square().mean().backward()
            optimizer.step()
    return scope


@looks_alike
def layers_that_begin_as_copies() -> gradscope.Scope:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    return loop(net, torch.optim.Adam(net.parameters()), lambda: net(torch.randn(2, 4, 8)).square().mean())


@looks_alike
def wrapped_for_several_devices() -> gradscope.Scope:
    net = nn.DataParallel(network())
    return fit(net, torch.optim.Adam(net.module.parameters()))


@looks_alike
def a_copy_that_has_an_optimizer_of_its_own_while_the_first_one_goes_on() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer)
    with gradscope.watch(net) as scope:
        fresh = optimizer
        for i in range(STEPS):
            if i == 3:
                net = copy.deepcopy(net)
                fresh = torch.optim.SGD(net.parameters(), lr=0.01)
            optimizer.zero_grad()
            fresh.zero_grad()
            loss_of(net).backward()
            optimizer.step()
            if fresh is not optimizer:
                fresh.step()
            schedule.step()
    return scope


@looks_alike
def centers_of_a_loss_that_the_optimizer_holds() -> gradscope.Scope:
    return with_centers(lambda net, centers: [*net.parameters(), *centers.parameters()])


@looks_alike
def centers_of_a_loss_that_are_moved_by_hand() -> gradscope.Scope:
    net, centers = network(), Centers()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            optimizer.zero_grad()
            centers(net(torch.randn(3, 6)), torch.arange(3)).backward()
            optimizer.step()
            with torch.no_grad():
                centers.centers.sub_(0.1 * cast(Tensor, centers.centers.grad))
    return scope


@looks_alike
def a_teacher_of_own_layers_that_nobody_froze() -> gradscope.Scope:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 2))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    net, teacher = network(), nn.Sequential(Own(), nn.Tanh(), Own())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    return loop(net, optimizer, lambda: teacher(net(torch.randn(5, 6))).square().mean())


@looks_alike
def an_averaged_copy_that_is_called_at_the_end() -> gradscope.Scope:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for i in range(STEPS):
            optimizer.zero_grad()
            if i < 3:
                loss_of(net).backward()
            else:
                with torch.no_grad():
                    loss_of(copy.deepcopy(net))
            optimizer.step()
    return scope


@pytest.mark.parametrize("program", healthy, ids=lambda program: program.__name__)
def test_what_is_held_on_purpose_raises_no_alarm(program: Program) -> None:
    torch.manual_seed(0)
    scope = program()
    alarms = [str(finding) for finding in scope.findings if finding.severity is not Severity.NOTE]
    assert not alarms, "\n".join(alarms)
