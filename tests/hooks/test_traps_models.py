"""Traps in models that change, or run in an unusual order, while they train."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    checkpoint_sequential,
    create_selective_checkpoint_contexts,
)
from traps import ROUNDS, counts, fit, loss_of, mlp, sgd, step_events, untouched

from gradscope.records import Kind, StepEnd


class Interrupt(BaseException):
    pass


def interrupted(gradient: Tensor) -> Tensor:
    raise Interrupt


@pytest.mark.parametrize("again", ["forward", "backward"])
def test_a_backward_that_is_interrupted_and_tried_again(again: str) -> None:
    """A backward that raises never announces its end: everything after it would belong to it."""

    def loop(net: Any) -> None:
        optimizer = sgd(net)
        for i in range(ROUNDS):
            optimizer.zero_grad()
            hidden = net[0](torch.randn(5, 6))
            loss = net[2](net[1](hidden)).square().mean()
            handle = hidden.register_hook(interrupted if i == 1 else lambda gradient: gradient)
            try:
                loss.backward(retain_graph=True)
            except Interrupt:
                handle.remove()
                optimizer.zero_grad()
                (loss_of(net) if again == "forward" else loss).backward()
            optimizer.step()

    recording = untouched(mlp, loop).recording
    assert len(step_events(recording)) == ROUNDS
    assert {info.contributions for info in recording.parameters} == {ROUNDS}


def test_a_forward_that_raises_and_is_caught() -> None:
    """A forward that is given up leaves half of its activations: they must not count as a step of their own."""

    def loop(net: nn.Module) -> None:
        optimizer = sgd(net)
        for i in range(ROUNDS):
            optimizer.zero_grad()
            if i == 2:
                with pytest.raises(RuntimeError, match="shapes"):
                    net(torch.randn(5, 7))
            loss_of(net).backward()
            optimizer.step()

    assert len(untouched(mlp, loop).recording.steps) == ROUNDS


def test_parameters_replaced_by_load_state_dict() -> None:
    """assign=True puts other Parameter objects into the model: what was remembered of the old ones goes stale."""

    def loop(net: nn.Module) -> None:
        fit(net)
        net.load_state_dict({name: value.clone() + 0.1 for name, value in net.state_dict().items()}, assign=True)
        fit(net)

    recording = untouched(mlp, loop).recording
    assert len(counts(recording, Kind.UPDATE)) == 4
    assert {info.optimizer_steps for info in recording.parameters} == {2 * ROUNDS}


def test_a_lazy_module_is_filled_in_its_first_forward() -> None:
    """An uninitialized parameter has no shape: asking for it, or hooking it, raises."""

    def loop(net: nn.Module) -> None:
        loss_of(net).backward()
        net.zero_grad()
        fit(net)

    recording = untouched(lambda: nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(3)), loop).recording
    assert counts(recording, Kind.UPDATE) == {"0.weight": 48, "0.bias": 8, "2.weight": 24, "2.bias": 3}


def test_a_layer_of_another_shape_takes_an_old_ones_place() -> None:
    """A value remembered from before the swap has another shape: subtracting it raises or broadcasts."""

    def loop(net: Any) -> None:
        fit(net)
        loss_of(net).backward()
        net[0], net[2] = nn.Linear(6, 9), nn.Linear(9, 4)
        fit(net)
        net[1] = nn.Identity()
        del net[2]
        fit(net)

    recording = untouched(mlp, loop).recording
    assert counts(recording, Kind.UPDATE) == {"0.weight": 54, "0.bias": 9}


def test_layers_that_are_frozen_and_unfrozen() -> None:
    """A gradient that stays on a frozen parameter looks like one that was never cleared."""

    def loop(net: Any) -> None:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        for i in range(3 * ROUNDS):
            net[0].requires_grad_(i // ROUNDS != 1)
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()

    recording = untouched(mlp, loop).recording
    infos = {info.path: info.contributions for info in recording.parameters}
    assert infos == {"0.weight": 2 * ROUNDS, "0.bias": 2 * ROUNDS, "2.weight": 3 * ROUNDS, "2.bias": 3 * ROUNDS}


def test_parameters_whose_data_is_replaced() -> None:
    """The Parameter stays and its memory goes: a cached pointer or a flat view would show the old values."""

    def loop(net: nn.Module) -> list[Tensor]:
        optimizer, losses = sgd(net), []
        for _ in range(ROUNDS):
            for parameter in net.parameters():
                parameter.data = parameter.data.clone() * 0.9
            losses += fit(net, optimizer=optimizer)
        return losses

    recording = untouched(mlp, loop).recording
    assert [len(counts(recording, Kind.UPDATE, row)) for row in range(ROUNDS)] == [4] * ROUNDS


def test_updates_through_data_end_their_steps() -> None:
    """`p.data -= ...` and `p.grad.data.zero_()` move no version counter: the run would be one endless step."""

    def loop(net: nn.Module) -> None:
        for _ in range(ROUNDS):
            loss_of(net).backward()
            for parameter in net.parameters():
                assert parameter.grad is not None
                parameter.data -= 0.05 * parameter.grad
                parameter.grad.data.zero_()

    assert [step.end for step in untouched(mlp, loop).recording.steps] == [StepEnd.MANUAL] * ROUNDS


def test_a_model_that_is_cast_while_it_trains() -> None:
    """double() changes every dtype under the same objects: cells of the old dtype cannot take the new values."""

    def loop(net: nn.Module) -> None:
        fit(net)
        net.double()
        fit(net, lambda net: net(torch.randn(5, 6, dtype=torch.float64)).square().mean())

    assert len(counts(untouched(mlp, loop).recording, Kind.UPDATE)) == 4


class Checkpointed(nn.Module):
    """Runs two dropout layers under a checkpoint of a given kind."""

    def __init__(self, how: Callable[..., Tensor]) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.body = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3), nn.Linear(8, 8), nn.Dropout(0.3))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self.body, self.stem(x))


def nested(body: Any, x: Tensor, *, reentrant: bool) -> Tensor:
    def outer(x: Tensor) -> Tensor:
        inner: Tensor = checkpoint(body[:2], x, use_reentrant=reentrant)
        return checkpoint(body[2:], inner, use_reentrant=reentrant)  # type: ignore[no-any-return]

    return checkpoint(outer, x, use_reentrant=reentrant)  # type: ignore[no-any-return]


def selective(body: Any, x: Tensor) -> Tensor:
    def policy(_context: Any, op: Any, *_: Any, **__: Any) -> CheckpointPolicy:
        return CheckpointPolicy.MUST_SAVE if "mm" in str(op) else CheckpointPolicy.PREFER_RECOMPUTE

    context = lambda: create_selective_checkpoint_contexts(policy)  # noqa: E731
    return checkpoint(body, x, use_reentrant=False, context_fn=context)  # type: ignore[no-any-return]


KINDS_OF_CHECKPOINT: dict[str, Callable[..., Tensor]] = {
    "nested": lambda body, x: nested(body, x, reentrant=False),
    "nested, reentrant": lambda body, x: nested(body, x, reentrant=True),
    "selective": selective,
    "sequential": lambda body, x: checkpoint_sequential(body, 2, x, use_reentrant=False),
    "sequential, reentrant": lambda body, x: checkpoint_sequential(body, 2, x, use_reentrant=True),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("how", KINDS_OF_CHECKPOINT.values(), ids=KINDS_OF_CHECKPOINT)
def test_layers_under_a_checkpoint_count_once(how: Callable[..., Tensor]) -> None:
    """A checkpoint runs its layers again inside the backward: each would have two or three activations."""
    recording = untouched(lambda: Checkpointed(how), fit).recording
    leaves = {"stem", "body.0", "body.1", "body.2", "body.3"}
    for kind in (Kind.ACTIVATION, Kind.ACTIVATION_GRADIENT):
        measured = counts(recording, kind)
        assert {path: measured[path] for path in leaves} == dict.fromkeys(leaves, 40)


def test_a_forward_that_optimizes_something_itself() -> None:
    """A backward inside the forward would end the outer step's forward, and its gradients would join the loss's."""

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.energy, self.head = nn.Linear(6, 1), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            point = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.energy(point).square().sum(), point, create_graph=True)
            output: Tensor = self.head(x - 0.1 * slope)
            return output

    recording = untouched(Inner, fit).recording
    assert len(recording.steps) == ROUNDS
    assert counts(recording, Kind.ACTIVATION)["head"] == 15


class Reentrant(torch.autograd.Function):
    """Runs a backward of its own inside the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, net: Any) -> Tensor:
        ctx.net, ctx.x = net, x.detach()
        return x * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        with torch.enable_grad():
            point = ctx.x.requires_grad_()
            ctx.net(point).square().mean().backward()
        return 2 * gradients[0], None


UNVERIFIED = (
    "the gradients of Reentrant were not verified: an argument is of type Linear and may remember; try gradscope.verify"
)


def test_a_backward_inside_a_backward() -> None:
    """The inner backward's end would be taken for the outer one's, while `.grad` is half full."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.side, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.head(Reentrant.apply(self.stem(x), self.side))
            return output

    recording = untouched(Net, fit, lost=[UNVERIFIED]).recording
    assert len(recording.steps) == ROUNDS
    assert len(counts(recording, Kind.PARAMETER_GRADIENT)) == 6
    assert {info.contributions for info in recording.parameters} == {ROUNDS}


def in_thread(function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@pytest.mark.parametrize("traced", [False, True], ids=["measured", "traced"])
def test_a_backward_in_another_thread_than_the_forward(traced: bool) -> None:
    """State kept for each thread would never see a whole step; a trace stays behind on the stack of its thread."""

    def loop(net: nn.Module) -> None:
        optimizer = sgd(net)
        for _ in range(ROUNDS):
            optimizer.zero_grad()
            loss = loss_of(net)
            in_thread(loss.backward)
            in_thread(optimizer.step)

    recording = untouched(mlp, loop, traced=traced).recording
    assert len(recording.steps) == ROUNDS
    assert len(counts(recording, Kind.ACTIVATION_GRADIENT)) == 4


def test_threads_that_take_turns_on_one_model() -> None:
    """Shared memory between workers: a lock or a per-thread table of ours would stop one of them."""

    def loop(net: nn.Module) -> None:
        net.share_memory()
        optimizers = [sgd(net), sgd(net)]

        def work(optimizer: torch.optim.Optimizer) -> None:
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()

        for i in range(2 * ROUNDS):
            in_thread(lambda i=i: work(optimizers[i % 2]))  # type: ignore[misc]

    assert len(untouched(mlp, loop).recording.steps) == 2 * ROUNDS


def test_two_threads_that_run_one_model_at_once() -> None:
    """One thread's backward would end the other's, and steps would be closed in the middle of both."""

    def loop(net: nn.Module) -> None:
        optimizer, inputs = sgd(net), torch.randn(10 * ROUNDS, 2, 5, 6)

        def work(batch: Tensor, barrier: threading.Barrier) -> None:
            barrier.wait()
            net(batch).square().mean().backward()

        for pair in inputs:
            optimizer.zero_grad()
            barrier = threading.Barrier(2)
            threads = [threading.Thread(target=work, args=(batch, barrier)) for batch in pair]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            optimizer.step()

    recording = untouched(mlp, loop, every=1).recording
    assert len(step_events(recording)) == 10 * ROUNDS
    assert len(counts(recording, Kind.PARAMETER_GRADIENT)) == 4


def test_gradients_that_are_views_of_one_flat_buffer() -> None:
    """All of them share one version counter: clearing or filling one would count for all."""

    def loop(net: nn.Module) -> None:
        parameters, optimizer = list(net.parameters()), sgd(net)
        flat = torch.zeros(sum(parameter.numel() for parameter in parameters))
        pieces = flat.split([parameter.numel() for parameter in parameters])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)
        for _ in range(ROUNDS):
            flat.zero_()
            loss_of(net).backward()
            optimizer.step()

    events = step_events(untouched(mlp, loop).recording)
    assert [(event.reused, event.cleared) for event in events] == [((), ())] * ROUNDS
