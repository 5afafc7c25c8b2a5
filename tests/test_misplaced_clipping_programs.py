"""Programs that clip in the wrong place, and those that only look as if they did."""

from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

import gradscope
from gradscope.events import EventKind
from gradscope.findings import Finding
from gradscope.hooks.clipping import Afterwards
from gradscope.hooks.rest import Rest

LIMIT = 1e-3
Program = Callable[[type[torch.optim.Optimizer]], gradscope.Scope]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.body(x))
        return output

    def loss(self) -> Tensor:
        output: Tensor = self(torch.randn(5, 6))
        return output.square().mean()


class Trainer:
    """As people write their own."""

    def __init__(self, net: Net, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        self.net, self.optimizer, self.scaler = net, optimizer, scaler

    def clip(self) -> None:
        clip_grad_norm_(self.net.parameters(), max_norm=LIMIT)

    def step(self, *, unscale: bool) -> None:
        self.optimizer.zero_grad()
        self.scaler.scale(self.net.loss()).backward()
        if unscale:
            self.scaler.unscale_(self.optimizer)
        self.clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()


def made(kind: type[torch.optim.Optimizer], **options: Any) -> tuple[Net, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = Net()
    return net, kind(net.parameters(), lr=0.01, **options)  # type: ignore[call-arg]


def after_the_step(kind: type[torch.optim.Optimizer]) -> gradscope.Scope:
    net, optimizer = made(kind)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            optimizer.zero_grad()
            net.loss().backward()
            optimizer.step()
            clip_grad_norm_(net.parameters(), LIMIT)
    return scope


def after_the_step_and_zeroed_late(kind: type[torch.optim.Optimizer]) -> gradscope.Scope:
    net, optimizer = made(kind)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            loss = net.loss()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            torch.nn.utils.clip_grad_norm_(net.parameters(), LIMIT, foreach=False)
    return scope


def values_after_the_step(kind: type[torch.optim.Optimizer]) -> gradscope.Scope:
    net, optimizer = made(kind)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            net.loss().backward()
            optimizer.step()
            clip_grad_value_(net.parameters(), LIMIT)
            optimizer.zero_grad()
    return scope


def before_unscaling(kind: type[torch.optim.Optimizer]) -> gradscope.Scope:
    net, optimizer = made(kind)
    scaler = torch.amp.GradScaler("cpu")
    with gradscope.watch(net) as scope:
        for _ in range(8):
            optimizer.zero_grad()
            scaler.scale(net.loss()).backward()
            clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
    return scope


def before_unscaling_in_a_trainer(kind: type[torch.optim.Optimizer]) -> gradscope.Scope:
    net, optimizer = made(kind)
    trainer = Trainer(net, optimizer, torch.amp.GradScaler("cpu"))
    with gradscope.watch(net) as scope:
        for _ in range(8):
            trainer.step(unscale=False)
    return scope


def before_a_fused_optimizer_unscales(kind: type[torch.optim.Optimizer]) -> gradscope.Scope:
    net, optimizer = made(kind, fused=True)
    trainer = Trainer(net, optimizer, torch.amp.GradScaler("cpu"))
    with gradscope.watch(net) as scope:
        for _ in range(8):
            trainer.step(unscale=False)
    return scope


def of_nothing(kind: type[torch.optim.Optimizer]) -> gradscope.Scope:
    net = Net()
    parameters = net.parameters()
    optimizer = kind(parameters, lr=0.01)  # type: ignore[call-arg]
    with gradscope.watch(net) as scope:
        for _ in range(8):
            optimizer.zero_grad()
            net.loss().backward()
            clip_grad_norm_(parameters, 1.0)
            optimizer.step()
    return scope


def of_nothing_by_keyword(kind: type[torch.optim.Optimizer]) -> gradscope.Scope:
    net = Net()
    parameters = net.parameters()
    optimizer = kind(parameters, lr=0.01)  # type: ignore[call-arg]
    with gradscope.watch(net) as scope:
        for _ in range(8):
            optimizer.zero_grad()
            net.loss().backward()
            clip_grad_norm_(max_norm=1.0, parameters=parameters)
            optimizer.step()
    return scope


def before_the_backward(kind: type[torch.optim.Optimizer]) -> gradscope.Scope:
    net, optimizer = made(kind)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            loss = net.loss()
            optimizer.zero_grad()
            clip_grad_norm_(net.parameters(), 1.0)
            loss.backward()
            optimizer.step()
    return scope


def zeros_before_the_backward(kind: type[torch.optim.Optimizer]) -> gradscope.Scope:
    net, optimizer = made(kind)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            loss = net.loss()
            optimizer.zero_grad(set_to_none=False)
            clip_grad_norm_(list(net.parameters()), 1.0, foreach=False)
            loss.backward()
            optimizer.step()
    return scope


@pytest.mark.filterwarnings("ignore:.*empty generator:UserWarning")
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize(
    ("program", "words"),
    [
        (after_the_step, "after the step"),
        (after_the_step_and_zeroed_late, "multiplied by"),
        (values_after_the_step, "cut at 0.001"),
        (before_unscaling, "clip_grad_norm_(net.parameters(), 1.0)"),
        (before_unscaling_in_a_trainer, "clip_grad_norm_(self.net.parameters(), max_norm=LIMIT)"),
        (before_a_fused_optimizer_unscales, "clipped first and unscaled later"),
        (of_nothing, "clip_grad_norm_(parameters, 1.0)"),
        (of_nothing_by_keyword, "clip_grad_norm_(max_norm=1.0, parameters=parameters)"),
        (before_the_backward, "before the backward that computes them"),
        (zeros_before_the_backward, "clip_grad_norm_(list(net.parameters()), 1.0, foreach=False)"),
    ],
)
def test_it_is_found_in_the_first_step(program: Program, words: str, kind: type[torch.optim.Optimizer]) -> None:
    (finding,) = judged(program(kind))
    assert (finding.analyzer, finding.step) == ("misplaced-clipping", 0)
    assert words in str(finding)
    assert finding.location is not None
    assert "test_misplaced_clipping_programs.py" in finding.location.file


def scaled(clip: Callable[[Net], object]) -> Finding:
    """What is found where gradients are clipped in this way before they are unscaled."""
    net, optimizer = made(torch.optim.SGD)
    scaler = torch.amp.GradScaler("cpu")
    with gradscope.watch(net) as scope:
        for _ in range(4):
            optimizer.zero_grad()
            scaler.scale(net.loss()).backward()
            clip(net)
            scaler.step(optimizer)
            scaler.update()
    (finding,) = judged(scope)
    assert finding.location is not None
    return finding


def test_clipping_in_a_loop_is_one() -> None:
    def clip(net: Net) -> None:
        for parameter in net.parameters():
            clip_grad_norm_(parameter, LIMIT, foreach=False)

    finding = scaled(clip)
    assert len(finding.sites) == 6
    assert finding.location is not None
    assert finding.location.source.startswith("clip_grad_norm_(parameter")


def test_clipping_on_two_lines_is_two() -> None:
    def clip(net: Net) -> None:
        clip_grad_norm_(net.head.parameters(), LIMIT)
        clip_grad_value_(net.body.parameters(), LIMIT)

    finding = scaled(clip)
    assert finding.sites == ("head.weight", "head.bias")
    assert finding.location is not None
    assert finding.location.source.startswith("clip_grad_norm_(net.head")


def test_values_that_are_clipped_before_unscaling_are_found() -> None:
    assert len(scaled(lambda net: clip_grad_value_(net.parameters(), clip_value=LIMIT)).sites) == 6


def judged(scope: gradscope.Scope) -> tuple[Finding, ...]:
    report = scope.report()
    assert report.notes == ()
    return report.findings


def unscaled_first(net: Net, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    trainer = Trainer(net, optimizer, torch.amp.GradScaler("cpu"))
    while True:
        trainer.step(unscale=True)
        yield


def with_a_scaled_limit(net: Net, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    scaler = torch.amp.GradScaler("cpu")
    while True:
        optimizer.zero_grad()
        scaler.scale(net.loss()).backward()
        clip_grad_norm_(net.parameters(), 1.0 * scaler.get_scale())
        scaler.step(optimizer)
        scaler.update()
        yield


def without_mixed_precision(net: Net, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    trainer = Trainer(net, optimizer, torch.amp.GradScaler("cpu", enabled=False))
    while True:
        trainer.step(unscale=False)
        yield


def in_place(net: Net, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    while True:
        net.loss().backward()
        clip_grad_norm_(net.parameters(), LIMIT)
        optimizer.step()
        yield optimizer.zero_grad(set_to_none=False)


def to_learn_the_norm(net: Net, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    while True:
        optimizer.zero_grad()
        net.loss().backward()
        optimizer.step()
        clip_grad_norm_(net.parameters(), float("inf")).item()
        yield


def module_by_module(net: Net, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    while True:
        optimizer.zero_grad()
        net.loss().backward()
        for module in net.body:
            clip_grad_norm_(module.parameters(), LIMIT)
        yield optimizer.step()


def normalised_for_a_picture(net: Net, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    while True:
        optimizer.zero_grad()
        net.loss().backward()
        optimizer.step()
        for parameter in net.parameters():
            assert parameter.grad is not None
            parameter.grad /= parameter.grad.norm() + 1e-12
        yield


def of_an_empty_list(net: Net, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    large: list[nn.Parameter] = [parameter for parameter in net.parameters() if parameter.numel() > 10_000]
    while True:
        optimizer.zero_grad()
        net.loss().backward()
        clip_grad_norm_(large, LIMIT)
        yield optimizer.step()


def of_another_model(net: Net, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    other = nn.Linear(3, 3)
    while True:
        optimizer.zero_grad()
        other(torch.randn(5, 3)).square().mean().backward()
        net.loss().backward()
        clip_grad_norm_(other.parameters(), LIMIT)
        yield optimizer.step()


def of_another_model_without_gradients(net: Net, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    other = nn.Linear(3, 3)
    while True:
        optimizer.zero_grad()
        net.loss().backward()
        clip_grad_norm_(other.parameters(), LIMIT)
        yield optimizer.step()


def of_a_part_without_gradients(net: Net, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    other = nn.Linear(3, 3)
    net.body.requires_grad_(False)
    while True:
        optimizer.zero_grad()
        loss = net.loss()
        clip_grad_norm_(other.parameters(), LIMIT)  # of another model
        loss.backward()
        clip_grad_norm_(net.body.parameters(), LIMIT)
        yield optimizer.step()


def part_by_part(net: Net, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    first = torch.optim.SGD(net.head.parameters(), lr=0.01)
    second = torch.optim.Adam(net.body.parameters(), lr=0.01)
    while True:
        first.zero_grad()
        second.zero_grad()
        net.loss().backward()
        clip_grad_norm_(net.head.parameters(), LIMIT)
        first.step()
        clip_grad_norm_(net.body.parameters(), LIMIT)
        yield second.step()


@pytest.mark.filterwarnings("ignore:.*empty generator:UserWarning")
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize(
    "program",
    [
        unscaled_first,
        with_a_scaled_limit,
        without_mixed_precision,
        in_place,
        to_learn_the_norm,
        module_by_module,
        normalised_for_a_picture,
        of_an_empty_list,
        of_another_model,
        of_another_model_without_gradients,
        of_a_part_without_gradients,
        part_by_part,
    ],
)
def test_silent_on_its_look_alikes(
    program: Callable[[Net, torch.optim.Optimizer], Iterator[None]], kind: type[torch.optim.Optimizer]
) -> None:
    net, optimizer = made(kind)
    with gradscope.watch(net) as scope:
        steps = program(net, optimizer)
        for _ in range(10):
            next(steps)
    assert judged(scope) == ()


def test_it_is_found_beside_gradients_that_are_zero() -> None:
    net, optimizer = made(torch.optim.SGD)
    with torch.no_grad():
        net.body[0].bias.fill_(-50.0)  # type: ignore[operator]
    with gradscope.watch(net, ignore=["dead-units", "zero-gradient"]) as scope:
        for _ in range(4):
            optimizer.zero_grad()
            net.loss().backward()
            optimizer.step()
            clip_grad_norm_(net.parameters(), LIMIT)
    assert [finding.analyzer for finding in scope.findings] == ["misplaced-clipping"]


def test_it_is_found_after_the_step_of_a_deep_net_whose_weights_are_large() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(80, 80) for _ in range(12)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(4):
            optimizer.zero_grad()
            (net(torch.randn(5, 80)) - 1).square().mean().backward()
            optimizer.step()
            clip_grad_norm_(net.parameters(), LIMIT)
    assert [finding.analyzer for finding in scope.findings] == ["misplaced-clipping"]


def test_silent_where_old_gradients_are_kept_and_decay() -> None:
    """Momentum by hand: what is left of the gradients goes into the next step."""
    net, optimizer = made(torch.optim.SGD)
    with gradscope.watch(net, ignore=["unzeroed-gradient"]) as scope:
        for _ in range(8):
            net.loss().backward()
            optimizer.step()
            for parameter in net.parameters():
                assert parameter.grad is not None
                parameter.grad.mul_(0.5)
    assert judged(scope) == ()


def held(scope: gradscope.Scope) -> set[str]:
    (tell,) = scope._hooks._loop._observers.rest_begins
    assert isinstance(tell, MethodType)
    afterwards = tell.__self__
    assert isinstance(afterwards, Afterwards)
    return set(afterwards._used)


def test_a_few_small_gradients_are_held_from_the_step_to_the_next_backward() -> None:
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(8)), nn.Linear(4, 2000))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net, every=1) as scope:
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.randn(5, 4)).square().mean().backward()
            assert held(scope) == set()
            optimizer.step()
            assert 6 <= len(held(scope)) <= 16
            assert "8.weight" not in held(scope)
    recording = scope.recording
    assert not [event for step in recording.steps for event in step.events if event.kind is EventKind.CHANGED]


def test_sixteen_gradients_are_held_all() -> None:
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(8)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        net(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()
        assert len(held(scope)) == 16


def test_a_loop_that_clips_rests_and_holds_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    net, optimizer = made(torch.optim.SGD)
    passed: list[bool] = []
    passes = Rest.passes

    def counted(rest: Rest) -> bool:
        passed.append(passes(rest))
        return passed[-1]

    monkeypatch.setattr(Rest, "passes", counted)
    with gradscope.watch(net, budget=0.001) as scope:
        for _ in range(80):
            optimizer.zero_grad()
            net.loss().backward()
            clip_grad_norm_(net.parameters(), LIMIT)
            optimizer.step()
    assert sum(passed) > 10
    assert held(scope) == set()
