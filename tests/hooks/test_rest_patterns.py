"""Gradients that somebody writes to alike in each step, to zero or to clip them, let a loop rest; a change does not."""

from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple

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
LATE = 20

pytestmark = pytest.mark.skipif(not host.AVAILABLE, reason="without the kernel, values are not known at once")


class Bench(NamedTuple):
    """What a loop is made of."""

    net: nn.Sequential
    optimizer: torch.optim.Optimizer


Act = Callable[[Bench], Any]


class Loop(NamedTuple):
    """What is done before the forward, before and after the backward, and after the step."""

    first: Act
    before: Act
    after: Act
    last: Act
    batches: int = 1

    def step(self, bench: Bench) -> None:
        self.first(bench)
        for _ in range(self.batches):
            loss = loss_of(bench.net)
            self.before(bench)
            loss.backward()
        self.after(bench)
        bench.optimizer.step()
        self.last(bench)


def nothing(_: Bench) -> None:
    """Do not do anything."""


def zero(bench: Bench) -> None:
    bench.optimizer.zero_grad(set_to_none=False)


def to_none(bench: Bench) -> None:
    bench.optimizer.zero_grad()


def by_hand(bench: Bench) -> None:
    for parameter in bench.net.parameters():
        if parameter.grad is not None:
            parameter.grad.detach_()
            parameter.grad.zero_()


def half(bench: Bench) -> None:
    for module in bench.net:
        module.zero_grad(set_to_none=module is bench.net[0])


def times_nothing(bench: Bench) -> None:
    for parameter in bench.net.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(0)


def clip(bench: Bench) -> None:
    nn.utils.clip_grad_norm_(bench.net.parameters(), 1e-3)


def all_but_one(bench: Bench) -> None:
    for parameter in list(bench.net.parameters())[1:]:
        if parameter.grad is not None:
            parameter.grad.zero_()


def twice(bench: Bench) -> None:
    zero(bench)
    zero(bench)


PLAIN = Loop(to_none, nothing, nothing, nothing)
ZEROED = Loop(zero, nothing, nothing, nothing)
REGULAR = {
    "zeroed": ZEROED,
    "zeroed by hand": Loop(by_hand, nothing, nothing, nothing),
    "zeroed in between": Loop(nothing, zero, nothing, nothing),
    "zeroed at the end": Loop(nothing, nothing, nothing, zero),
    "half of them": Loop(half, nothing, nothing, nothing),
    "times nothing": Loop(times_nothing, nothing, nothing, nothing),
    "zeroed, of several batches": ZEROED._replace(batches=3),
    "zeroed twice": Loop(zero, zero, nothing, nothing),
    "clipped": PLAIN._replace(after=clip),
    "zeroed and clipped": ZEROED._replace(after=clip),
}
IN_PLACE = {name: loop for name, loop in REGULAR.items() if name != "clipped"}


def bench_of(net: nn.Sequential) -> Bench:
    return Bench(net, torch.optim.SGD(net.parameters(), lr=0.01))


def run(loop: Loop, then: Loop | None = None, *, until: int = STEPS, **options: Any) -> tuple[Scope, list[bool], Bench]:
    """Steps of a loop and, from `FAULT` until `until`, of another; whether it was at rest after each of them."""
    bench, resting = bench_of(network()), []
    with gradscope.watch(bench.net, **{"every": SELDOM, **options}) as scope:
        for step in range(STEPS):
            (then if then is not None and FAULT <= step < until else loop).step(bench)
            resting.append(at_rest())
    return scope, resting, bench


@pytest.mark.parametrize("loop", REGULAR.values(), ids=REGULAR)
def test_a_loop_that_writes_to_its_gradients_alike_in_each_step_rests(loop: Loop) -> None:
    scope, resting, bench = run(loop)
    assert resting[3:] == [True] * (STEPS - 3)
    steps = scope.recording.steps
    assert [(step.index, step.end) for step in steps] == [(i, StepEnd.OPTIMIZER) for i in range(STEPS)]
    kinds = [EventKind.BACKWARD] * loop.batches + [EventKind.STEP]
    assert all([event.kind for event in step.events] == kinds for step in steps[1:])
    noted = [event.kind for event in steps[0].events]  # it was traced, and clipping noted
    assert [kind for kind in noted if kind is not EventKind.CLIPPED] == kinds
    assert (EventKind.CLIPPED in noted) == (loop.after is clip)
    assert {info.optimizer_steps for info in scope.recording.parameters} == {STEPS}
    assert not scope.findings
    assert not scope.report().notes
    bare = bench_of(network())
    for _ in range(STEPS):
        loop.step(bare)
    assert all(torch.equal(a, b) for a, b in zip(bare.net.parameters(), bench.net.parameters(), strict=True))


@pytest.mark.parametrize("every", [2, 3, 7])
@pytest.mark.parametrize("loop", REGULAR.values(), ids=REGULAR)
def test_a_rest_that_is_interrupted_all_the_time_is_silent(loop: Loop, every: int) -> None:
    scope, _, _ = run(loop, every=every)
    assert [step.index for step in scope.recording.observed] == list(range(0, STEPS, every))
    assert not any(event.reused or event.cleared for step in scope.recording.steps for event in step.events)
    assert scope.report().steps == STEPS
    assert not scope.findings


@pytest.mark.parametrize("loop", IN_PLACE.values(), ids=IN_PLACE)
def test_gradients_that_are_no_longer_zeroed(loop: Loop) -> None:
    scope, resting, _ = run(loop, loop._replace(first=nothing, before=nothing, last=nothing))
    assert resting[FAULT - 1]
    late = loop.last is not nothing  # after the last step before the fault they still were
    assert found(scope) == {"unzeroed-gradient": FAULT + 1 + late}


def test_gradients_that_are_no_longer_zeroed_for_one_parameter() -> None:
    scope, _, _ = run(ZEROED, ZEROED._replace(first=all_but_one))
    assert found(scope) == {"unzeroed-gradient": FAULT + 1}
    assert scope.findings[0].sites == ("0.weight",)


def test_gradients_that_are_not_zeroed_once() -> None:
    scope, resting, _ = run(ZEROED, ZEROED._replace(first=nothing), until=FAULT + 1)
    assert not resting[FAULT]
    assert all(resting[FAULT + 2 :])
    assert not scope.findings


SILENCED = {
    "zeroed after the backward instead of before it": (ZEROED, Loop(nothing, nothing, zero, nothing)),
    "zeroed before it and after it": (ZEROED, ZEROED._replace(after=zero)),
    "zeroed instead of clipped": (PLAIN._replace(after=clip), PLAIN._replace(after=zero)),
    "zeroed instead of clipped, and before": (ZEROED._replace(after=clip), ZEROED._replace(after=zero)),
    "zeroed after the last of several batches": (
        ZEROED._replace(batches=3),
        Loop(nothing, nothing, zero, nothing, batches=3),
    ),
}


@pytest.mark.parametrize(("loop", "then"), SILENCED.values(), ids=SILENCED)
def test_gradients_that_are_zeroed_before_the_step(loop: Loop, then: Loop) -> None:
    scope, resting, _ = run(loop, then)
    assert resting[FAULT - 1]
    cleared = [step.index for step in scope.recording.steps for event in step.events if event.cleared]
    assert cleared == list(range(FAULT + 1, STEPS))


HARMLESS = {
    "zeroed twice": (ZEROED, ZEROED._replace(first=twice)),
    "cleared to None": (ZEROED, PLAIN),
    "zeroed in place": (PLAIN, ZEROED),
    "clipped": (ZEROED, ZEROED._replace(after=clip)),
    "no longer clipped": (ZEROED._replace(after=clip), ZEROED),
    "zeroed later": (ZEROED, Loop(nothing, zero, nothing, nothing)),
    "another batch": (ZEROED, ZEROED._replace(batches=2)),
}


@pytest.mark.parametrize("until", [FAULT + 1, STEPS])
@pytest.mark.parametrize(("loop", "then"), HARMLESS.values(), ids=HARMLESS)
def test_a_change_that_is_no_fault(loop: Loop, then: Loop, until: int) -> None:
    scope, resting, _ = run(loop, then, until=until)
    assert resting[FAULT - 1]
    assert all(resting[FAULT + 5 :])
    assert scope.report().steps == STEPS
    assert not scope.findings


def test_a_step_without_a_backward_ends_the_rest() -> None:
    bench = bench_of(network())
    with gradscope.watch(bench.net, every=SELDOM) as scope:
        for step in range(STEPS):
            ZEROED.step(bench)
            if step == FAULT:
                assert at_rest()
                bench.optimizer.step()
                assert not at_rest()
    assert not scope.report().notes


@pytest.mark.parametrize("then", [zero, clip], ids=["zeroed", "clipped"])
def test_nan_is_noticed_on_its_step(then: Act) -> None:
    def poison(bench: Bench) -> None:
        then(bench)
        with torch.no_grad():
            next(bench.net.parameters()).fill_(float("nan"))

    loop = Loop(to_none if then is clip else then, nothing, clip if then is clip else nothing, nothing)
    scope, resting, _ = run(loop, loop._replace(first=poison))
    assert found(scope)["non-finite-value"] == FAULT
    assert resting[FAULT - 1]
    assert not resting[FAULT]


@pytest.mark.parametrize("place", ["first", "after", "last"])
@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("loop", REGULAR.values(), ids=REGULAR)
def test_a_trace_that_is_asked_for_anywhere_in_a_step(loop: Loop, place: str, begins: bool) -> None:
    """The rest ends between two of the step's parts: whether a backward has run is told from the gradients."""
    bench = bench_of(network())

    def asking(bench: Bench) -> None:
        for act in (ask, act_there) if begins else (act_there, ask):
            act(bench)

    def ask(_: Bench) -> None:
        scope.trace_next()

    act_there: Act = getattr(loop, place)
    changed: dict[str, Any] = {place: asking}
    with gradscope.watch(bench.net, every=SELDOM) as scope:
        for step in range(STEPS):
            (loop._replace(**changed) if step == FAULT else loop).step(bench)
    assert scope.report().steps == STEPS
    assert not scope.findings
    assert not scope.report().notes


@pytest.mark.parametrize("enabled", [False, True])
def test_what_a_loss_scaler_may_leave_out_is_not_left_out_of_sight(enabled: bool) -> None:
    """From one step on it leaves out every step, and a rest that waits for one would never end."""
    bench = bench_of(network())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, enabled=enabled)
    with gradscope.watch(bench.net, every=4) as scope:
        for step in range(STEPS):
            to_none(bench)
            scaler.scale(loss_of(bench.net, float("nan") if step >= FAULT else 1.0)).backward()
            scaler.step(bench.optimizer)
            scaler.update()
            assert not enabled or not at_rest()
            assert enabled or at_rest() or step % 4 in (0, 3) or step >= FAULT
    assert FAULT <= found(scope)["non-finite-value"] <= FAULT + 4
    assert scope.report().steps == STEPS


def test_where_gradients_are_always_zeroed_before_the_step_nobody_rests() -> None:
    _, resting, _ = run(Loop(nothing, nothing, zero, nothing))
    assert not any(resting)


def test_gradients_that_are_written_to_but_not_zeroed_before_a_backward() -> None:
    scope, resting, _ = run(Loop(clip, nothing, nothing, nothing))
    assert not any(resting[1:])
    assert found(scope) == {"unzeroed-gradient": 2}


def test_a_gradient_that_is_always_zero_keeps_nobody_from_rest() -> None:
    bench, resting = bench_of(network()), []
    with gradscope.watch(bench.net, every=SELDOM):
        for _ in range(STEPS):
            zero(bench)
            loss_of(bench.net, factor=0.0).backward()  # that of the first weight
            bench.optimizer.step()
            resting.append(at_rest())
    assert all(resting[2:])


def test_gradients_that_begin_as_zeros_are_not_taken_for_zeroed_ones() -> None:
    """Weights that begin as zeros give those before them gradients of zeros: nobody has zeroed them, and never does."""
    bench = bench_of(network())
    *_, weight, bias = bench.net.parameters()
    nn.init.zeros_(weight.requires_grad_(False))
    bias.requires_grad_(False)
    with gradscope.watch(bench.net, every=SELDOM) as scope:
        for step in range(STEPS):
            if step == 1:
                nn.init.ones_(weight)
            Loop(nothing, nothing, nothing, nothing).step(bench)
            assert not at_rest()
    assert found(scope) == {"unzeroed-gradient": 2}


@pytest.mark.parametrize(("later", "noticed"), [(2, 4), (LATE, LATE + 1)])
def test_a_parameter_that_is_fed_later_and_never_zeroed(later: int, noticed: int) -> None:
    """Its first gradient has not been zeroed yet; to be written to once a step is then no sign that it is."""
    head = nn.Linear(2, 2)
    net = network().append(head)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net, every=SELDOM) as scope:
        for step in range(STEPS):
            for parameter in chain(net[0].parameters(), net[2].parameters()):
                if parameter.grad is not None:
                    parameter.grad.zero_()
            body = net[:3](torch.randn(5, 6))
            (head(body) if step >= later else body).square().mean().backward()
            optimizer.step()
            assert at_rest() or not 2 <= step < later
    assert found(scope)["unzeroed-gradient"] == noticed
