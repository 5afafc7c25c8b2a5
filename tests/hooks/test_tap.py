"""The compiled short way of the hooks: it records what the full way does, and leaves to it whatever is not plain."""

import gc
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import ref

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import gradscope
from gradscope.hooks.attachment import Attachment
from gradscope.hooks.modules import Modules
from gradscope.hooks.tap import NoTap
from gradscope.records import Kind, Recording, Statistic

STEPS = 6


class Module(nn.Module):
    """Some layers, and what to do with them."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Sequential(nn.Tanh()))


def called_twice() -> nn.Module:
    return Module(lambda self, x: self.last(self.layer(self.layer(x))), layer=nn.Linear(6, 6), last=nn.Linear(6, 2))


def views() -> nn.Module:
    """A layer on three dimensions returns a view, of which one is then modified in place."""
    layers = {"one": nn.Linear(6, 6), "two": nn.Linear(6, 6)}
    return Module(lambda self, x: self.two(torch.relu_(self.one(x[:, None]))).squeeze(1), **layers)


def a_view_of_other_things() -> nn.Module:
    """Half of a tensor, whose base is no stand-in for it."""
    part = Module(lambda self, x: self.layer(x)[:, :3], layer=nn.Linear(6, 6))
    return Module(lambda self, x: self.last(self.part(x)), part=part, last=nn.Linear(3, 2))


def several_outputs() -> nn.Module:
    return Module(lambda self, x: self.last(self.rnn(x[:, None])[0][:, 0]), rnn=nn.GRU(6, 5), last=nn.Linear(5, 2))


def not_contiguous() -> nn.Module:
    turned = Module(lambda self, x: self.layer(x).t(), layer=nn.Linear(6, 8))
    return Module(lambda self, x: self.last(self.turned(x).t()), turned=turned, last=nn.Linear(8, 2))


def checkpointed() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        kept = checkpoint(self.inner, self.first(x), use_reentrant=False)
        return torch.as_tensor(self.last(kept))

    inner = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    return Module(run, first=nn.Linear(6, 8), inner=inner, last=nn.Linear(8, 2))


def partly_without_a_graph() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        hidden = self.first(x)
        with torch.no_grad():
            target = self.body(hidden)
        return torch.sub(self.body(hidden), target)

    return Module(run, first=nn.Linear(6, 6), body=nn.Linear(6, 2))


def half_precision() -> nn.Module:
    layers = {"body": nn.Linear(6, 8), "last": nn.Linear(8, 2)}
    return Module(lambda self, x: self.last(torch.tanh(self.body(x.bfloat16()))).float(), **layers).bfloat16()


def integers_and_identities() -> nn.Module:
    return nn.Sequential(nn.Identity(), nn.Linear(6, 4), nn.Identity(), nn.Dropout(0.0), nn.Flatten())


MODELS = (
    plain,
    called_twice,
    views,
    a_view_of_other_things,
    several_outputs,
    not_contiguous,
    checkpointed,
    partly_without_a_graph,
    half_precision,
    integers_and_identities,
)


def once(model: nn.Module, x: Tensor) -> None:
    model(x).square().mean().backward()


def twice(model: nn.Module, x: Tensor) -> None:
    loss = model(x).square().mean()
    loss.backward(retain_graph=True)
    (0.5 * loss).backward()


def through_its_own_gradient(model: nn.Module, x: Tensor) -> None:
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    slope.square().mean().backward()


def in_two_batches(model: nn.Module, x: Tensor) -> None:
    for part in x.chunk(2):
        once(model, part)


LOSSES = (once, twice, through_its_own_gradient, in_two_batches)


def recorded(build: Callable[[], nn.Module], backward: Callable[[nn.Module, Tensor], None] = once) -> Recording:
    torch.manual_seed(0)
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with gradscope.watch(model, every=1, analyzers=[]) as scope:
        for _ in range(STEPS):
            optimizer.zero_grad()
            backward(model, torch.randn(8, 6))
            optimizer.step()
    assert not scope.report().notes
    return scope.recording


@pytest.fixture
def full_ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by what goes the full way."""
    ways: list[str] = []
    for name, method in (("forward", Modules.forward), ("_gradient", Modules._gradient)):

        def counted(*args: Any, name: str = name, method: Callable[..., None] = method) -> None:
            ways.append(name.removeprefix("_"))
            method(*args)

        monkeypatch.setattr(Modules, name, counted)
    return ways


@pytest.mark.parametrize("backward", LOSSES)
@pytest.mark.parametrize("build", MODELS)
def test_both_ways_record_the_same(
    build: Callable[[], nn.Module], backward: Callable[[nn.Module, Tensor], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = recorded(build, backward)
    monkeypatch.setattr(Attachment, "_open_tap", lambda _: None)
    full = recorded(build, backward)
    assert short.sites == full.sites
    assert short.graph == full.graph
    assert short.parameters == full.parameters
    assert [step.calls.tolist() for step in short.steps if step.calls is not None] == [
        step.calls.tolist() for step in full.steps if step.calls is not None
    ]
    for kind, statistic in itertools.product(Kind, Statistic):
        np.testing.assert_array_equal(short.values(kind, statistic), full.values(kind, statistic))


def test_plain_modules_take_the_short_way_after_their_first_step(full_ways: list[str]) -> None:
    recorded(plain)
    modules, later = 6, STEPS - 2  # the first step is traced; the first forward and gradient of each step are news
    assert full_ways.count("forward") <= 2 * modules + later
    assert full_ways.count("gradient") <= 2 * modules + later


def test_so_do_views_that_are_modified_in_place_or_not(full_ways: list[str]) -> None:
    recorded(views)
    modified = 1
    assert full_ways.count("forward") <= 2 * 3 + STEPS - 2
    assert full_ways.count("gradient") <= 2 * 3 + (1 + modified) * (STEPS - 2) + 2


class Counting(TorchDispatchMode):
    """A mode of the user's."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "around", [Counting, lambda: torch.device("cpu"), torch.autograd.forward_ad.dual_level, nullcontext]
)
def test_it_steps_aside_under_modes_and_transforms(
    around: Callable[[], AbstractContextManager[Any]], full_ways: list[str]
) -> None:
    model = plain()
    with gradscope.watch(model, every=1, analyzers=[]) as scope:
        for _ in range(3):
            once(model, torch.randn(8, 6))
        full_ways.clear()
        with around():
            model(torch.randn(8, 6))
    short = around is nullcontext
    assert (full_ways.count("forward") == 1) is short
    assert not scope.report().notes


def test_kept_tensors_are_kept_on_every_step(full_ways: list[str]) -> None:
    model = plain()
    with gradscope.watch(model, every=1, keep="2", analyzers=[]) as scope:
        for _ in range(3):
            x = torch.randn(8, 6)
            once(model, x)
            model.zero_grad()
    assert torch.equal(scope.tensor("2", Kind.ACTIVATION), model[:3](x))
    assert full_ways.count("forward") == 3 * 6


def test_after_the_scope_a_graph_that_is_left_says_nothing() -> None:
    model = plain()
    with gradscope.watch(model, every=1, analyzers=[]) as scope:
        for _ in range(3):
            once(model, torch.randn(8, 6))
        loss = model(torch.randn(8, 6)).sum()
    before = len(scope._recorder.log.entries)
    loss.backward()
    model(torch.randn(8, 6))
    assert len(scope._recorder.log.entries) == before
    assert not scope.report().notes


def test_a_large_tensor_leaves_the_lock_to_others(full_ways: list[str]) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Identity(), nn.Linear(2, 1))
    with gradscope.watch(model, every=1, analyzers=[]) as scope:
        for rows in (8, 8, 8, 2**21 + 1):
            full_ways.clear()
            once(model, torch.randn(rows, 2))
            model.zero_grad()
    assert full_ways.count("forward") == 2  # those of over 2 ** 22 elements, of which one is the first of the step
    values = scope.recording.values(Kind.ACTIVATION, Statistic.COUNT)
    assert values[-1].tolist() == [2 * (2**21 + 1)] * 2 + [2**21 + 1] * 2


def test_a_model_that_changes_is_known_anew(full_ways: list[str]) -> None:
    model = plain()
    with gradscope.watch(model, every=1, analyzers=[]) as scope:
        for _ in range(3):
            once(model, torch.randn(8, 6))
            model.zero_grad()
        model[2] = nn.Linear(8, 4)
        for _ in range(3):
            once(model, torch.randn(8, 6))
            model.zero_grad()
    values = scope.recording.values(Kind.ACTIVATION_GRADIENT, Statistic.NORM)
    assert np.isfinite(values).all()
    assert (values > 0).all()


def test_what_a_module_that_runs_late_was_computed_from_is_known() -> None:
    late = Module(
        lambda self, x: self.last(self.two(self.one(self.first(x)))) if self.open else self.one(self.first(x)),
        first=nn.Linear(6, 6),
        one=nn.Linear(6, 6),
        two=nn.Linear(6, 6),
        last=nn.Linear(6, 2),
    )
    with gradscope.watch(late, every=1, analyzers=[]) as scope:
        for step in range(6):
            late.open = step > 3  # type: ignore[assignment]
            once(late, torch.randn(8, 6))
            late.zero_grad()
    assert scope.recording.graph.sources["two"] == ("one",)


def test_nothing_is_left_behind() -> None:
    model = plain()
    with gradscope.watch(model, every=1, analyzers=[]) as scope:
        for _ in range(3):
            loss = model(torch.randn(8, 6)).square().mean()
            loss.backward()
            model.zero_grad()
    attachment, graph = ref(scope._hooks), loss.grad_fn
    del scope, loss, graph
    gc.collect()
    assert attachment() is None


def test_a_tensor_that_is_no_more_is_not_taken_for_another() -> None:
    model = plain()
    with gradscope.watch(model, every=1, analyzers=[]) as scope:
        tap = scope._recorder.tap
        tensor = torch.ones(3)
        tap.remember(tensor, 1, 2, [3])
        assert tap.again(tensor) == (1, 2, [3])
        assert tap.again(torch.ones(3)) is None
        tensor.add_(1)
        assert tap.again(tensor) is None
        tap.remember(tensor, 1, 2, [3])
        del tensor
        assert tap.again(torch.ones(3)) is None
        tap.forget()


def broken_guard(_: Tensor) -> Any:
    raise MemoryError


def test_an_error_on_the_short_way_leads_to_the_full_one(full_ways: list[str]) -> None:
    """A guard that cannot be made, as when memory is short."""
    model = views()
    with gradscope.watch(model, every=1, analyzers=[]) as scope:
        for step in range(4):
            full_ways.clear()
            once(model, torch.randn(8, 6))
            model.zero_grad()
            if step == 2:
                scope._recorder.tap.connect(broken_guard, lambda *_: None)
    assert full_ways.count("forward") == 3


def test_without_a_kernel_there_is_no_short_way() -> None:
    tap = NoTap()
    assert not tap.forward(nn.Identity(), torch.ones(1))
    seen: list[Any] = []
    tap.connect(broken_guard, lambda *args: seen.append(args))
    output = tap.output(1, [2], 0, None, None)
    output((None,))
    assert seen == [(output, (None,))]
