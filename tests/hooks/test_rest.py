"""At rest, a regular loop is followed at its optimizer's steps alone; whatever is not regular ends the rest."""

from collections.abc import Callable
from time import sleep

import pytest
import torch
from resting import FAULT, SELDOM, at_rest, found, loss_of, network, run
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks

import gradscope
from gradscope.events import EventKind
from gradscope.records import Kind, StepEnd


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad])
@pytest.mark.parametrize("backwards", [1, 3])
def test_a_regular_loop_comes_to_rest_and_every_step_is_counted(
    optimizer: Callable[..., torch.optim.Optimizer], backwards: int
) -> None:
    scope, resting, _ = run(60, optimizer=optimizer, backwards=backwards)
    assert resting[2:] == [True] * 58
    steps = scope.recording.steps
    assert [step.index for step in steps] == list(range(60))
    assert {step.end for step in steps} == {StepEnd.OPTIMIZER}
    kinds = [EventKind.BACKWARD] * backwards + [EventKind.STEP]
    assert all([event.kind for event in step.events] == kinds for step in steps)
    assert {info.optimizer_steps for info in scope.recording.parameters} == {60}
    assert {info.contributions for info in scope.recording.parameters} == {60 * backwards} or backwards > 1
    assert not scope.findings
    assert not scope.report().notes


def test_nothing_is_left_of_a_rest() -> None:
    run(10)
    assert not _global_forward_hooks


def test_training_is_the_same_bit_for_bit() -> None:
    bare = network()
    optimizer = torch.optim.SGD(bare.parameters(), lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        loss_of(bare).backward()
        optimizer.step()
    _, resting, watched = run(50, every=7)
    assert any(resting)
    assert all(torch.equal(a, b) for a, b in zip(bare.parameters(), watched.parameters(), strict=True))


@pytest.mark.parametrize("patience", [0.0, 60.0])
def test_observed_steps_are_measured_in_full(patience: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradscope.hooks.rest.PATIENCE", patience)
    scope, resting, _ = run(60, every=10)
    assert [(step.index, step.end) for step in scope.recording.steps] == [(i, StepEnd.OPTIMIZER) for i in range(60)]
    assert [step.index for step in scope.recording.observed] == list(range(0, 60, 10))
    counts = scope.recording.values(Kind.ACTIVATION_GRADIENT, gradscope.Statistic.COUNT)
    assert (counts > 0).all()
    assert not any(resting[9::10])  # before each of them everybody listens again
    assert all(resting[k] for k in range(12, 18))


def test_gradients_that_are_no_longer_cleared() -> None:
    scope, _, _ = run(60, zero=lambda step, optimizer: step < FAULT and optimizer.zero_grad())
    assert found(scope) == {"unzeroed-gradient": FAULT + 1}


def test_gradients_that_are_no_longer_cleared_for_one_parameter() -> None:
    def all_but_one(step: int, optimizer: torch.optim.Optimizer) -> None:
        first, *others = optimizer.param_groups[0]["params"]
        for parameter in others if step >= FAULT else (first, *others):
            parameter.grad = None

    scope, _, _ = run(60, zero=all_but_one)
    assert found(scope) == {"unzeroed-gradient": FAULT + 1}
    assert scope.findings[0].sites == ("0.weight",)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_that_are_cleared_before_the_step(set_to_none: bool) -> None:
    def too_early(step: int, _: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if step >= FAULT:
            optimizer.zero_grad(set_to_none=set_to_none)

    scope, _, _ = run(60, between=too_early)
    cleared = [step.index for step in scope.recording.steps for event in step.events if event.cleared]
    assert cleared == list(range(FAULT + 1, 60))


def test_steps_that_take_long_are_looked_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the patience is over after a step that passed, that step's good look says nothing of the next."""
    clock = iter(range(10**6))
    monkeypatch.setattr("gradscope.hooks.rest.PATIENCE", 3)
    monkeypatch.setattr("gradscope.hooks.rest.perf_counter", lambda: next(clock))
    scope, _, _ = run(60, every=30, factor=lambda step: float("nan") if step == FAULT else 1.0)
    assert found(scope) == {"non-finite-value": FAULT}
    assert {step.end for step in scope.recording.steps} == {StepEnd.OPTIMIZER}
    assert scope.report().steps == 60


def test_nan_is_noticed_on_its_step() -> None:
    scope, resting, _ = run(60, factor=lambda step: float("nan") if step == FAULT else 1.0)
    assert found(scope) == {"non-finite-value": FAULT}
    assert resting[FAULT - 1]
    assert not resting[FAULT]


def test_one_step_that_is_different_is_no_fault() -> None:
    def clipped(step: int, model: nn.Module, _: torch.optim.Optimizer) -> None:
        if step == FAULT:
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)

    scope, resting, _ = run(60, between=clipped)
    assert not scope.findings
    assert not resting[FAULT]
    assert all(resting[FAULT + 3 :])


def test_a_second_optimizer_that_comes_later_ends_the_rest() -> None:
    model = network()
    first = torch.optim.SGD(model.parameters(), lr=0.01)
    with gradscope.watch(model, every=SELDOM) as scope:
        for step in range(40):
            optimizer = first if step < 20 else torch.optim.SGD(model.parameters(), lr=0.01)
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
            assert at_rest() is (2 <= step < 20) or step < 2
    assert scope.report().steps == 40
    assert not scope.findings


def test_a_model_that_is_not_watched_disturbs_nothing() -> None:
    other = network()
    stranger = torch.optim.SGD(other.parameters(), lr=0.01)

    def train_the_other(_step: int, _model: nn.Module, _optimizer: torch.optim.Optimizer) -> None:
        loss_of(other).backward()
        stranger.step()

    scope, resting, _ = run(40, between=train_the_other)
    assert all(resting[3:])
    assert scope.report().steps == 40
    assert not scope.findings


def test_a_parameter_group_that_is_added_ends_the_rest() -> None:
    model, head = network(), nn.Linear(2, 1)
    whole = nn.ModuleDict({"body": model, "head": head})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    resting = []
    with gradscope.watch(whole, every=SELDOM) as scope:
        for step in range(40):
            if step == 20:
                optimizer.add_param_group({"params": list(head.parameters())})
            optimizer.zero_grad()
            output = model(torch.randn(5, 6))
            (head(output) if step >= 20 else output).square().mean().backward()
            optimizer.step()
            resting.append(at_rest())
    assert scope.report().steps == 40
    assert not scope.findings
    assert resting[19:21] == [True, False]
    assert all(resting[25:])
    steps = {info.path: info.optimizer_steps for info in scope.recording.parameters}
    assert steps["body.0.weight"] == 40
    assert steps["head.weight"] == 20


def test_a_graph_from_before_the_rest_may_run_again() -> None:
    model = nn.Linear(6, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    kept = []
    with gradscope.watch(model, every=SELDOM) as scope:
        for step in range(30):
            optimizer.zero_grad()
            loss = model(torch.randn(5, 6)).mean()
            loss.backward(retain_graph=True)
            if step == 0:
                kept.append(loss)
            if step == 20:
                kept[0].backward(retain_graph=True)
            optimizer.step()
    assert scope.report().steps == 30
    assert not scope.findings


def test_a_trace_can_be_asked_for_at_rest() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with gradscope.watch(model, every=SELDOM) as scope:
        for step in range(40):
            if step == 30:
                assert at_rest()
                scope.trace_next()
                assert not at_rest()
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
    assert {operation.step for operation in scope.recording.operations} == {30}


def test_a_finding_at_rest_is_followed_by_dense_steps() -> None:
    def poisoned(step: int, model: nn.Module, _: torch.optim.Optimizer) -> None:
        if step == FAULT:
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.grad.mul_(0).div_(0)

    scope, _, _ = run(60, between=poisoned, every=None, budget=1e-6)
    later = [step.index for step in scope.recording.observed if step.index > 20]
    assert later[:3] == [FAULT + 1, FAULT + 2, FAULT + 3] or later[:3] == [FAULT + 2, FAULT + 3, FAULT + 4]


def test_steps_that_are_wanted_in_the_middle_of_a_rest_are_measured_in_full_or_not_at_all() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with gradscope.watch(model, budget=1e-6) as scope:
        for step in range(60):
            optimizer.zero_grad()
            loss_of(model).backward()
            if at_rest() and len(scope._cadence._observed) and step < FAULT:
                scope._cadence.watch_closely(step)  # in the first step of each rest, too
            optimizer.step()
    assert len(scope.recording.observed) > 20
    assert (scope.recording.values(Kind.ACTIVATION, gradscope.Statistic.COUNT) > 0).all()


def test_where_steps_are_skipped_nobody_rests() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with gradscope.watch(model, every=SELDOM) as scope:
        for step in range(30):
            optimizer.zero_grad()
            loss_of(model).backward()
            if step % 2 or step > 10:  # as a loss scaler does after an overflow
                optimizer.step()
            assert not at_rest() or step < 3
    assert scope.report().steps == 30


def test_a_closure_that_the_optimizer_runs() -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    with gradscope.watch(model, every=SELDOM) as scope:
        for _ in range(30):
            optimizer.step(closure)
    assert scope.report().steps == 30
    assert not scope.findings


def test_scopes_side_by_side_rest_and_wake_by_themselves() -> None:
    models = network(), network()
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.01) for model in models]
    with gradscope.watch(models[0], every=SELDOM) as first, gradscope.watch(models[1], every=4) as second:
        for _ in range(24):
            for model, optimizer in zip(models, optimizers, strict=True):
                optimizer.zero_grad()
                loss_of(model).backward()
                optimizer.step()
    assert first.report().steps == second.report().steps == 24
    assert len(second.recording.observed) == 6
    assert len(first.recording.observed) == 1
    assert not first.findings
    assert not second.findings


def test_a_step_without_a_backward_ends_the_rest() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with gradscope.watch(model, every=SELDOM) as scope:
        for step in range(30):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
            if step == 20:
                assert at_rest()
                optimizer.step()
                assert not at_rest()
    assert not scope.report().notes


def test_what_a_step_at_rest_takes_is_known_whenever_it_is_closed() -> None:
    """The time of those that passed and of the one that is closed with them is shared out evenly."""
    scope, resting, _ = run(150, between=lambda *_: sleep(0.001), every=None)
    assert any(resting)
    assert min(scope._cadence._others) > 0.001
