"""What the hooks make of training loops: steps, and which gradients were reused or cleared."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import gradscope
from gradscope.events import EventKind, LoopEvent
from gradscope.records import Kind, Statistic, StepEnd

ROUNDS = 4

Loop = Callable[[nn.Module], None]


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def loss_of(net: nn.Module) -> Tensor:
    output: Tensor = net(torch.randn(5, 6))
    return output.square().mean()


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.1)


def step_events(scope: gradscope.Scope) -> list[LoopEvent]:
    return [event for step in scope.recording.steps for event in step.events if event.kind is EventKind.STEP]


def watched(loop: Loop, net: nn.Module | None = None) -> gradscope.Scope:
    net = net or model()
    with gradscope.watch(net) as scope:
        loop(net)
    assert not scope.recording.lost
    return scope


def plain(net: nn.Module, *, set_to_none: bool = True) -> None:
    optimizer = sgd(net)
    for _ in range(ROUNDS):
        optimizer.zero_grad(set_to_none=set_to_none)
        loss_of(net).backward()
        optimizer.step()


def zeroed_in_place(net: nn.Module) -> None:
    plain(net, set_to_none=False)


def zeroed_after_forward(net: nn.Module) -> None:
    optimizer = sgd(net)
    for _ in range(ROUNDS):
        loss = loss_of(net)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def zeroed_through_data(net: nn.Module) -> None:
    optimizer = sgd(net)
    for _ in range(ROUNDS):
        loss_of(net).backward()
        optimizer.step()
        for parameter in net.parameters():
            assert parameter.grad is not None
            parameter.grad.data.zero_()


def replaced_by_zeros(net: nn.Module) -> None:
    optimizer = sgd(net)
    for _ in range(ROUNDS):
        loss_of(net).backward()
        optimizer.step()
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)


def accumulating(net: nn.Module) -> None:
    optimizer = sgd(net)
    for _ in range(ROUNDS):
        for _ in range(3):
            (loss_of(net) / 3).backward()
        optimizer.step()
        optimizer.zero_grad()


def accumulating_zeroed_in_place(net: nn.Module) -> None:
    optimizer = sgd(net)
    for _ in range(ROUNDS):
        optimizer.zero_grad(set_to_none=False)
        for _ in range(3):
            (loss_of(net) / 3).backward()
        optimizer.step()


def by_autograd_grad(net: nn.Module) -> None:
    parameters = list(net.parameters())
    for _ in range(ROUNDS):
        gradients = torch.autograd.grad(loss_of(net), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(0.1 * gradient)


def clipping(net: nn.Module) -> None:
    optimizer = sgd(net)
    for _ in range(ROUNDS):
        optimizer.zero_grad()
        loss_of(net).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1e-3)
        optimizer.step()


def two_losses(net: nn.Module) -> None:
    optimizer = sgd(net)
    for _ in range(ROUNDS):
        optimizer.zero_grad()
        output = net(torch.randn(5, 6))
        output.mean().backward(retain_graph=True)
        output.square().mean().backward()
        optimizer.step()


def lbfgs(net: nn.Module) -> None:
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=4)
    inputs = torch.randn(5, 6)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = net(inputs).square().mean()
        loss.backward()
        return loss

    for _ in range(ROUNDS):
        optimizer.step(closure)


def closure_like_lightning(net: nn.Module) -> None:
    optimizer = sgd(net)

    def closure() -> float:
        loss = loss_of(net)
        optimizer.zero_grad()
        loss.backward()
        return float(loss.detach())

    for _ in range(ROUNDS):
        optimizer.step(closure)


def exactly_zero_loss(net: nn.Module) -> None:
    optimizer = sgd(net)
    for _ in range(ROUNDS):
        optimizer.zero_grad(set_to_none=False)
        (loss_of(net) * 0).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()


def scaler(net: nn.Module) -> None:
    optimizer, scaling = sgd(net), torch.amp.GradScaler("cpu", init_scale=1024.0)
    for _ in range(ROUNDS):
        optimizer.zero_grad()
        scaling.scale(loss_of(net)).backward()
        scaling.unscale_(optimizer)
        scaling.step(optimizer)
        scaling.update()


def scheduler(net: nn.Module) -> None:
    optimizer = sgd(net)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    for _ in range(ROUNDS):
        optimizer.zero_grad()
        loss_of(net).backward()
        optimizer.step()
        schedule.step()


def by_hand(net: nn.Module) -> None:
    for _ in range(ROUNDS):
        net.zero_grad()
        loss_of(net).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)


def gradient_penalty(net: nn.Module) -> None:
    optimizer = sgd(net)
    for _ in range(ROUNDS):
        optimizer.zero_grad()
        inputs = torch.randn(5, 6, requires_grad=True)
        output = net(inputs)
        (slope,) = torch.autograd.grad(output.sum(), inputs, create_graph=True)
        (output.mean() + slope.norm()).backward()
        optimizer.step()


def with_validation(net: nn.Module) -> None:
    optimizer = sgd(net)
    for _ in range(ROUNDS):
        net.train()
        optimizer.zero_grad()
        loss_of(net).backward()
        optimizer.step()
        net.eval()
        with torch.no_grad():
            loss_of(net)
        with torch.inference_mode():
            loss_of(net)


HEALTHY = [
    plain,
    zeroed_in_place,
    zeroed_after_forward,
    zeroed_through_data,
    replaced_by_zeros,
    accumulating,
    accumulating_zeroed_in_place,
    by_autograd_grad,
    clipping,
    two_losses,
    lbfgs,
    closure_like_lightning,
    exactly_zero_loss,
    scaler,
    scheduler,
    by_hand,
    gradient_penalty,
    with_validation,
]


@pytest.mark.parametrize("loop", HEALTHY, ids=lambda loop: loop.__name__)
def test_a_healthy_loop_has_its_steps_and_no_reused_or_cleared_gradient(loop: Loop) -> None:
    events = step_events(watched(loop))
    assert len(events) == ROUNDS
    assert [(event.reused, event.cleared) for event in events] == [((), ())] * ROUNDS
    assert {event.parameters for event in events} == {4}


def never_zeroed(net: nn.Module) -> None:
    optimizer = sgd(net)
    for _ in range(ROUNDS):
        loss_of(net).backward()
        optimizer.step()


def never_zeroed_but_clipped(net: nn.Module) -> None:
    optimizer = sgd(net)
    for _ in range(ROUNDS):
        loss_of(net).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1e-3)
        optimizer.step()


def never_zeroed_fused_adam(net: nn.Module) -> None:
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    for _ in range(ROUNDS):
        loss_of(net).backward()
        optimizer.step()


def never_zeroed_accumulating(net: nn.Module) -> None:
    optimizer = sgd(net)
    for _ in range(ROUNDS):
        loss_of(net).backward()
        loss_of(net).backward()
        optimizer.step()


def never_zeroed_by_hand(net: nn.Module) -> None:
    for _ in range(ROUNDS):
        loss_of(net).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)


FORGETFUL = [
    never_zeroed,
    never_zeroed_but_clipped,
    never_zeroed_fused_adam,
    never_zeroed_accumulating,
    never_zeroed_by_hand,
]


@pytest.mark.parametrize("loop", FORGETFUL, ids=lambda loop: loop.__name__)
def test_gradients_that_were_not_zeroed_are_reused_from_the_second_step_on(loop: Loop) -> None:
    events = step_events(watched(loop))
    assert [len(event.reused) for event in events] == [0] + [4] * (ROUNDS - 1)
    assert not any(event.cleared for event in events)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_zeroed_between_backward_and_step_are_cleared(set_to_none: bool) -> None:
    def loop(net: nn.Module) -> None:
        optimizer = sgd(net)
        for _ in range(ROUNDS):
            loss_of(net).backward()
            optimizer.zero_grad(set_to_none=set_to_none)
            optimizer.step()

    events = step_events(watched(loop))
    assert [len(event.cleared) for event in events] == [4] * ROUNDS
    assert not any(event.reused for event in events)


def test_a_gan_whose_generator_pass_pollutes_the_discriminator_is_healthy() -> None:
    torch.manual_seed(0)
    generator, critic = nn.Linear(3, 6), nn.Linear(6, 1)
    pair = nn.ModuleDict({"generator": generator, "critic": critic})

    def loop(_net: nn.Module) -> None:
        generate, criticise = sgd(generator), sgd(critic)
        for _ in range(ROUNDS):
            noise = torch.randn(4, 3)
            criticise.zero_grad(set_to_none=False)
            (critic(torch.randn(4, 6)) - critic(generator(noise).detach())).mean().backward()
            criticise.step()
            generate.zero_grad(set_to_none=False)
            (-critic(generator(noise)).mean()).backward()
            generate.step()

    events = step_events(watched(loop, pair))
    assert len(events) == 2 * ROUNDS
    assert not any(event.reused or event.cleared for event in events)


def test_optimizers_that_step_one_after_the_other_end_one_step() -> None:
    def loop(net: nn.Module) -> None:
        assert isinstance(net, nn.Sequential)
        both = [sgd(net[0]), sgd(net[2])]
        for _ in range(ROUNDS):
            net.zero_grad()
            loss_of(net).backward()
            for optimizer in both:
                optimizer.step()

    scope = watched(loop)
    assert [step.index for step in scope.recording.steps] == list(range(ROUNDS))
    assert len(step_events(scope)) == 2 * ROUNDS


@pytest.mark.parametrize("late", [False, True], ids=["zeroed before forward", "zeroed after forward"])
def test_a_step_that_a_loss_scaler_skips_ends_as_cleared(late: bool) -> None:
    def loop(net: nn.Module) -> None:
        optimizer, scaling = sgd(net), torch.amp.GradScaler("cpu", init_scale=8.0)
        for round_ in range(ROUNDS):
            if not late:
                optimizer.zero_grad()
            loss = loss_of(net)
            if late:
                optimizer.zero_grad()
            scaling.scale(loss * (float("inf") if round_ == 1 else 1.0)).backward()
            scaling.step(optimizer)
            scaling.update()

    scope = watched(loop)
    assert [step.end for step in scope.recording.steps] == [
        StepEnd.OPTIMIZER,
        StepEnd.CLEARED,
        StepEnd.OPTIMIZER,
        StepEnd.OPTIMIZER,
    ]
    assert len(scope.recording.observed) == ROUNDS


def test_a_manual_update_ends_a_step() -> None:
    scope = watched(by_hand)
    assert [step.end for step in scope.recording.steps] == [StepEnd.MANUAL] * ROUNDS


def test_without_an_update_the_step_stays_open() -> None:
    scope = watched(lambda net: loss_of(net).backward())
    assert [step.end for step in scope.recording.steps] == [StepEnd.OPEN]


def test_contributions_and_steps_are_counted_for_each_parameter() -> None:
    infos = watched(accumulating).recording.parameters
    assert {info.contributions for info in infos} == {3 * ROUNDS}
    assert {info.optimizer_steps for info in infos} == {ROUNDS}


def test_events_carry_the_users_lines() -> None:
    events = [event for step in watched(plain).recording.steps for event in step.events]
    assert {event.location.function for event in events if event.location} == {"plain"}
    assert all(event.location and event.location.file.endswith("test_loops.py") for event in events)


def test_a_fused_optimizer_under_a_loss_scaler() -> None:
    def loop(net: nn.Module, *, fused: bool) -> gradscope.Scope:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=fused)
        scaling = torch.amp.GradScaler("cpu", init_scale=256.0)
        torch.manual_seed(0)
        with gradscope.watch(net) as scope:
            for round_ in range(ROUNDS):
                optimizer.zero_grad()
                loss = loss_of(net) * (float("inf") if round_ == 1 else 1.0)
                scaling.scale(loss).backward()
                scaling.step(optimizer)
                scaling.update()
        return scope

    plain, fused = (loop(model(), fused=fused) for fused in (False, True))
    assert [step.end for step in fused.recording.steps] == [step.end for step in plain.recording.steps]
    norms = [scope.recording.values(Kind.PARAMETER_GRADIENT, Statistic.NORM)[0] for scope in (plain, fused)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    assert fused.findings == plain.findings == ()
