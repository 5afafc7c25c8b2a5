"""Adversarial programs in which a loss leaks into the other network's step, and those in which it must not count."""

from collections.abc import Callable
from types import MethodType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

import gradscope
from gradscope.findings import Finding
from gradscope.hooks.leaks import Leaks
from gradscope.watching import watch_everything

Kind = type[torch.optim.Optimizer]


class Game:
    """Two networks and their optimizers."""

    def __init__(self, kind: Kind = torch.optim.Adam) -> None:
        torch.manual_seed(0)
        self.generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
        self.critic = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
        self.generate = kind(self.generator.parameters(), lr=1e-3)  # type: ignore[call-arg]
        self.criticise = kind(self.critic.parameters(), lr=1e-3)  # type: ignore[call-arg]

    def fake(self) -> Tensor:
        made: Tensor = self.generator(torch.randn(16, 4))
        return made

    def critics_loss(self, fake: Tensor) -> Tensor:
        made: Tensor = softplus(-self.critic(torch.randn(16, 2) + 2)).mean() + softplus(self.critic(fake)).mean()
        return made

    def generators_loss(self) -> Tensor:
        made: Tensor = softplus(-self.critic(self.fake())).mean()
        return made


def leaking(game: Game) -> None:
    game.criticise.zero_grad()
    game.critics_loss(game.fake()).backward()
    game.criticise.step()
    game.generators_loss().backward()
    game.generate.step()
    game.generate.zero_grad()


def leaking_in_place(game: Game) -> None:
    game.criticise.zero_grad(set_to_none=False)
    game.critics_loss(game.fake()).backward()
    game.criticise.step()
    game.generators_loss().backward()
    game.generate.step()
    game.generate.zero_grad(set_to_none=False)


def detached(game: Game) -> None:
    game.criticise.zero_grad()
    game.critics_loss(game.fake().detach()).backward()
    game.criticise.step()
    game.generate.zero_grad()
    game.generators_loss().backward()
    game.generate.step()


def detached_and_zeroed_late(game: Game) -> None:
    game.criticise.zero_grad()
    game.critics_loss(game.fake().detach()).backward()
    game.criticise.step()
    game.generators_loss().backward()
    game.generate.step()
    game.generate.zero_grad()


def cleared_before_its_own_backward(game: Game) -> None:
    game.criticise.zero_grad()
    game.critics_loss(game.fake()).backward()
    game.criticise.step()
    game.generate.zero_grad()
    game.generators_loss().backward()
    game.generate.step()


def several_critics_steps(game: Game) -> None:
    for _ in range(3):
        game.criticise.zero_grad()
        game.critics_loss(game.fake()).backward()
        game.criticise.step()
    game.generate.zero_grad()
    game.generators_loss().backward()
    game.generate.step()


def accumulating_generator(game: Game) -> None:
    game.generate.zero_grad()
    for _ in range(2):
        game.criticise.zero_grad()
        game.critics_loss(game.fake().detach()).backward()
        game.criticise.step()
        (game.generators_loss() / 2).backward()
    game.generate.step()


def joint(game: Game) -> None:
    game.generate.zero_grad()
    game.criticise.zero_grad()
    game.critics_loss(game.fake()).backward()
    game.generators_loss().backward()
    game.criticise.step()
    game.generate.step()


def two_time_scales(game: Game) -> None:
    """A head that steps on each loss, and a body that adds up several."""
    game.generate.zero_grad()
    for _ in range(2):
        game.criticise.zero_grad()
        (game.critic(game.fake()).square().mean() / 2).backward()
        game.criticise.step()
    game.generate.step()


def two_time_scales_body_first(game: Game) -> None:
    game.generate.zero_grad()
    game.criticise.zero_grad()
    game.critic(game.fake()).square().mean().backward()
    game.criticise.step()
    game.criticise.zero_grad()
    game.critic(game.fake()).square().mean().backward()
    game.generate.step()
    game.criticise.step()


def together(turn: Callable[[Game], None], kind: Kind) -> tuple[Finding, ...]:
    game = Game(kind)
    with gradscope.watch({"generator": game.generator, "critic": game.critic}) as scope:
        for _ in range(10):
            turn(game)
    assert scope.report().notes == ()
    return scope.findings


def each_by_itself(turn: Callable[[Game], None], kind: Kind) -> tuple[Finding, ...]:
    with watch_everything() as everything:
        game = Game(kind)
        for _ in range(10):
            turn(game)
        reports = everything.reports()
    assert [report.notes for report in reports.values()] == [(), ()]
    return tuple(finding for report in reports.values() for finding in report.findings)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("watched", [together, each_by_itself])
@pytest.mark.parametrize("turn", [leaking, leaking_in_place])
def test_a_leak_is_found(turn: Callable[[Game], None], watched: Callable[..., tuple[Finding, ...]], kind: Kind) -> None:
    (finding,) = watched(turn, kind)
    assert finding.analyzer == "leaked-gradient"
    assert "game.generate.step()" in str(finding)
    assert finding.scope == "4 of 4 parameters"


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("watched", [together, each_by_itself])
@pytest.mark.parametrize(
    "turn",
    [
        detached,
        detached_and_zeroed_late,
        cleared_before_its_own_backward,
        several_critics_steps,
        accumulating_generator,
        joint,
        two_time_scales,
        two_time_scales_body_first,
    ],
)
def test_silent_on(turn: Callable[[Game], None], watched: Callable[..., tuple[Finding, ...]], kind: Kind) -> None:
    assert watched(turn, kind) == ()


def judged_and_cleared_late(game: Game) -> None:
    """The critic has a loss of its own, and what the generator's loss left in it is still there."""
    softplus(-game.critic(torch.randn(16, 2) + 2)).mean().backward()
    game.criticise.step()
    game.criticise.zero_grad()
    game.generate.zero_grad()
    game.generators_loss().backward()
    game.generate.step()


def judged_and_cleared(game: Game) -> None:
    game.criticise.zero_grad()
    softplus(-game.critic(torch.randn(16, 2) + 2)).mean().backward()
    game.criticise.step()
    game.generate.zero_grad()
    game.generators_loss().backward()
    game.generate.step()


def judged_and_cleared_in_between(game: Game) -> None:
    """The first backward is thrown away, and with it what had been left."""
    softplus(-game.critic(torch.randn(16, 2) + 2)).mean().backward()
    judged_and_cleared(game)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("watched", [together, each_by_itself])
def test_what_is_left_in_a_judge_with_a_loss_of_its_own_is_a_note(
    watched: Callable[..., tuple[Finding, ...]], kind: Kind
) -> None:
    (finding,) = watched(judged_and_cleared_late, kind)
    assert (finding.analyzer, finding.severity) == ("leaked-gradient", gradscope.Severity.NOTE)
    assert "game.criticise.step()" in str(finding)
    assert finding.scope == "4 of 4 parameters"
    assert watched(judged_and_cleared, kind) == watched(judged_and_cleared_in_between, kind) == ()


def test_silent_on_tasks_with_heads_of_their_own() -> None:
    body, heads = nn.Linear(4, 8), nn.ModuleList([nn.Linear(8, 1), nn.Linear(8, 1)])
    net = nn.ModuleDict({"body": body, "heads": heads})
    shared = torch.optim.SGD(body.parameters(), lr=0.01)
    own = [torch.optim.SGD(head.parameters(), lr=0.01) for head in heads]
    with gradscope.watch(net) as scope:
        for _ in range(10):
            shared.zero_grad()
            for head, optimizer in zip(heads, own, strict=True):
                optimizer.zero_grad()
                head(body(torch.randn(16, 4))).square().mean().backward()
                optimizer.step()
            shared.step()
    assert scope.findings == ()


def test_nothing_is_looked_at_while_there_is_one_optimizer() -> None:
    net = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(4):
            optimizer.zero_grad()
            net(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
    (tell,) = scope._hooks._loop._observers.forward_begins
    assert isinstance(tell, MethodType)
    leaks = tell.__self__
    assert isinstance(leaks, Leaks)
    (known,) = leaks._others.values()
    assert (known.held, known.before) == ([], [])
