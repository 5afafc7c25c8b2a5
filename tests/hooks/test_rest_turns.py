"""Several optimizers that end each step in turn let a loop rest; another order, or one that stays away, does not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from resting import FAULT, SELDOM, at_rest, found, loss_of, network
from torch import nn

import gradscope
from gradscope.events import EventKind
from gradscope.hooks.meters import host
from gradscope.records import StepEnd
from gradscope.scope import Scope

STEPS = 60
STYLES = [True, pytest.param(False, marks=pytest.mark.skipif(not host.AVAILABLE, reason="needs the kernel"))]

Optimizers = list[torch.optim.Optimizer]
Turns = Callable[[int, Optimizers], Any]


def in_turn(_: int, optimizers: Optimizers) -> None:
    for optimizer in optimizers:
        optimizer.step()


def optimizers_of(net: nn.Sequential, *, names: tuple[str, ...] = ("0", "2")) -> Optimizers:
    return [torch.optim.SGD(net.get_submodule(name).parameters(), lr=0.01) for name in names]


def train(net: nn.Sequential, optimizers: Optimizers, step: int, turns: Turns, zeroed: Any, set_to_none: bool) -> None:
    for optimizer in optimizers if zeroed is None or step < FAULT else zeroed:
        optimizer.zero_grad(set_to_none=set_to_none)
    loss_of(net).backward()
    turns(step, optimizers)


def run(
    turns: Turns = in_turn, *, zeroed: Any = None, set_to_none: bool = True, **options: Any
) -> tuple[Scope, list[bool], nn.Sequential]:
    """Steps that two optimizers end by turns, and whether the loop was at rest after each."""
    net = network()
    optimizers = optimizers_of(net)
    resting = []
    with gradscope.watch(net, **{"every": SELDOM, **options}) as scope:
        for step in range(STEPS):
            chosen = None if zeroed is None else [optimizers[i] for i in zeroed]
            train(net, optimizers, step, turns, chosen, set_to_none)
            resting.append(at_rest())
    return scope, resting, net


def from_fault(*order: int) -> Turns:
    """From `FAULT` on they step in another order."""

    def turns(step: int, optimizers: Optimizers) -> None:
        in_turn(step, [optimizers[i] for i in order] if step >= FAULT else optimizers)

    return turns


@pytest.mark.parametrize("set_to_none", STYLES)
@pytest.mark.parametrize("every", [SELDOM, 7])
def test_optimizers_that_step_in_turn_let_a_loop_rest(set_to_none: bool, every: int) -> None:
    scope, resting, watched = run(set_to_none=set_to_none, every=every)
    assert resting[3:] == [True] * (STEPS - 3) or every == 7
    assert any(resting)
    steps = scope.recording.steps
    assert [(step.index, step.end) for step in steps] == [(i, StepEnd.OPTIMIZER) for i in range(STEPS)]
    kinds = [EventKind.BACKWARD, EventKind.STEP, EventKind.STEP]
    assert all([event.kind for event in step.events] == kinds for step in steps)
    assert {info.optimizer_steps for info in scope.recording.parameters} == {STEPS}
    assert {info.contributions for info in scope.recording.parameters} == {STEPS}
    assert not scope.findings
    assert not scope.report().notes
    bare = network()
    optimizers = optimizers_of(bare)
    for step in range(STEPS):
        train(bare, optimizers, step, in_turn, None, set_to_none)
    assert all(torch.equal(a, b) for a, b in zip(bare.parameters(), watched.parameters(), strict=True))


@pytest.mark.parametrize("set_to_none", STYLES)
@pytest.mark.parametrize("zeroed", [(), (0,), (1,)], ids=["of none", "of the first", "of the second"])
def test_gradients_that_are_no_longer_zeroed(zeroed: tuple[int, ...], set_to_none: bool) -> None:
    scope, resting, _ = run(zeroed=zeroed, set_to_none=set_to_none)
    assert resting[FAULT - 1]
    assert found(scope) == {"unzeroed-gradient": FAULT + 1}
    first = "2" if 0 in zeroed else "0"
    assert scope.findings[0].sites == (f"{first}.weight", f"{first}.bias")


@pytest.mark.parametrize("set_to_none", STYLES)
@pytest.mark.parametrize("order", [(0,), (1,), (1, 0), (0, 0, 1), (0, 1, 1)], ids=str)
def test_other_turns_end_the_rest_and_every_step_is_counted(order: tuple[int, ...], set_to_none: bool) -> None:
    scope, resting, _ = run(from_fault(*order), set_to_none=set_to_none)
    assert resting[FAULT - 1]
    assert not resting[FAULT + 1] or order == (1, 0)
    assert scope.report().steps == STEPS
    steps = {info.path: info.optimizer_steps for info in scope.recording.parameters}
    assert steps == {
        f"{2 * i}.{name}": FAULT + order.count(i) * (STEPS - FAULT) for i in (0, 1) for name in ("weight", "bias")
    }
    turns = [sum(event.kind is EventKind.STEP for event in step.events) for step in scope.recording.steps]
    assert turns == [2] * FAULT + [len(order)] * (STEPS - FAULT)
    assert not scope.report().notes


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("set_to_none", STYLES)
def test_an_optimizer_that_steps_seldom_is_no_fault(times: int, set_to_none: bool) -> None:
    def turns(step: int, optimizers: Optimizers) -> None:
        in_turn(step, optimizers if step < FAULT or step % 4 == 0 else optimizers[:times])

    scope, _, _ = run(turns, set_to_none=set_to_none)
    assert scope.report().steps == STEPS
    assert not scope.findings


@pytest.mark.parametrize("set_to_none", STYLES)
def test_gradients_of_the_second_that_are_cleared_before_its_step(set_to_none: bool) -> None:
    def turns(step: int, optimizers: Optimizers) -> None:
        optimizers[0].step()
        if step >= FAULT:
            optimizers[1].zero_grad(set_to_none=set_to_none)
        optimizers[1].step()

    scope, _, _ = run(turns, set_to_none=set_to_none)
    cleared = [step.index for step in scope.recording.steps for event in step.events if event.cleared]
    assert cleared == list(range(FAULT + 1, STEPS))


def test_nan_is_noticed_on_its_step() -> None:
    net = network()
    optimizers = optimizers_of(net)
    with gradscope.watch(net, every=SELDOM) as scope:
        for step in range(STEPS):
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss_of(net, float("nan") if step == FAULT else 1.0).backward()
            in_turn(step, optimizers)
    assert found(scope)["non-finite-value"] == FAULT


@pytest.mark.parametrize("set_to_none", STYLES)
def test_a_trace_that_is_asked_for_between_two_turns(set_to_none: bool) -> None:
    scopes: list[Scope] = []

    def turns(step: int, optimizers: Optimizers) -> None:
        optimizers[0].step()
        if step == FAULT:
            assert at_rest()
            scopes[0].trace_next()
        optimizers[1].step()

    net = network()
    optimizers = optimizers_of(net)
    with gradscope.watch(net, every=SELDOM) as scope:
        scopes.append(scope)
        for step in range(STEPS):
            train(net, optimizers, step, turns, None, set_to_none)
    assert scope.report().steps == STEPS
    assert {info.optimizer_steps for info in scope.recording.parameters} == {STEPS}
    assert not scope.findings
    assert not scope.report().notes


def test_two_networks_that_are_trained_by_turns_are_followed_in_full() -> None:
    net = network()
    optimizers = optimizers_of(net)
    with gradscope.watch(net, every=SELDOM) as scope:
        for step in range(STEPS):
            optimizer = optimizers[step % 2]
            net.zero_grad()
            loss_of(net).backward()
            optimizer.step()
            assert step < 2 or not at_rest()
    assert scope.report().steps == STEPS


def test_gradients_that_wait_for_their_turn_when_the_rest_ends_may_grow() -> None:
    """The second optimizer stays away for a step, and what its gradients hold by then is to be used with the next."""
    net = network()
    optimizers = optimizers_of(net)
    with gradscope.watch(net, every=SELDOM) as scope:
        for step in range(STEPS):
            for optimizer in optimizers[:1] if step == FAULT + 1 else optimizers:
                optimizer.zero_grad()
            loss_of(net).backward()
            optimizers[0].step()
            if step == FAULT:
                assert at_rest()
                scope.trace_next()
            else:
                optimizers[1].step()
    assert scope.report().steps == STEPS
    assert not scope.findings
