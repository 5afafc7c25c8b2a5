"""Training is bit for bit the same, watched or not, and nothing is left behind."""

import copy
import gc
import io
import pickle
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psutil
import pytest
import torch
from models import Digits, Encoder, ResNet18, digits_batch, images_batch, tokens_batch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks

import gradscope

STEPS = 5

Batch = Callable[[], Tensor]
Watching = Callable[[nn.Module], AbstractContextManager[Any]]

MODELS = [
    pytest.param(Digits, digits_batch, "sgd", id="digits"),
    pytest.param(ResNet18, images_batch, "sgd", id="resnet18"),
    pytest.param(Encoder, tokens_batch, "adamw", id="encoder"),
]


def trained(build: Callable[[], nn.Module], batch: Batch, optimizer: str, watching: Watching) -> list[Tensor]:
    """Everything that training leaves, after a few steps: parameters, buffers, optimizer and RNG state."""
    torch.manual_seed(0)
    model = build()
    made: torch.optim.Optimizer
    if optimizer == "sgd":
        made = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    else:
        made = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with watching(model):
        for _ in range(STEPS):
            made.zero_grad()
            nn.functional.cross_entropy(model(batch()), torch.randint(10, (batch().shape[0],))).backward()
            made.step()
    state = [tensor for per in made.state.values() for tensor in per.values() if isinstance(tensor, Tensor)]
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return [*model.state_dict().values(), *gradients, *state, torch.get_rng_state()]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize(("build", "batch", "optimizer"), MODELS)
@pytest.mark.parametrize("options", [{}, {"every": 2}, {"keep": "*"}], ids=["every step", "every second", "kept"])
def test_training_ends_bit_identical(
    build: Callable[[], nn.Module], batch: Batch, optimizer: str, options: dict[str, Any]
) -> None:
    bare = trained(build, batch, optimizer, lambda _: nullcontext())
    watched = trained(build, batch, optimizer, lambda model: gradscope.watch(model, **options))
    assert same(bare, watched)


def test_a_hook_that_draws_a_random_number_is_noticed() -> None:
    class Careless(nullcontext[None]):
        def __init__(self, _model: nn.Module) -> None:
            super().__init__()
            self._handle = module_hooks.register_module_forward_hook(self.draw)

        @staticmethod
        def draw(*_: object) -> None:
            torch.rand(1)

        def __exit__(self, *_: object) -> None:
            self._handle.remove()

    bare = trained(Digits, digits_batch, "sgd", lambda _: nullcontext())
    assert not same(bare, trained(Digits, digits_batch, "sgd", Careless))


def test_a_traced_step_is_bit_identical() -> None:
    def watching(model: nn.Module) -> gradscope.Scope:
        scope = gradscope.watch(model)
        scope.trace_next()
        return scope

    for build, batch, optimizer in ((Encoder, tokens_batch, "adamw"), (ResNet18, images_batch, "sgd")):
        bare = trained(build, batch, optimizer, lambda _: nullcontext())
        assert same(bare, trained(build, batch, optimizer, watching))


def hooks_anywhere() -> dict[str, int]:
    tables = {
        name: len(table)
        for home in (module_hooks, sys.modules["torch.optim.optimizer"])
        for name, table in vars(home).items()
        if name.startswith("_global") and isinstance(table, dict)
    }
    tables["function modes"] = torch._C._len_torch_function_stack()
    tables["full backward"] = bool(module_hooks._global_is_full_backward_hook)
    return tables


def attributes(model: nn.Module) -> list[Any]:
    of_modules = [sorted(vars(module)) for module in model.modules()]
    of_parameters = [(p._backward_hooks, p._post_accumulate_grad_hooks, vars(p)) for p in model.parameters()]
    tables = [len(getattr(m, name)) for m in model.modules() for name in sorted(vars(m)) if name.endswith("_hooks")]
    return [*of_modules, *of_parameters, tables]


@pytest.mark.parametrize("raising", [False, True])
def test_nothing_is_left_behind(raising: bool) -> None:
    model = Digits()
    before, hooks = attributes(model), hooks_anywhere()
    try:
        with gradscope.watch(model) as scope:
            scope.trace_next()
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for _ in range(3):
                model(digits_batch()).sum().backward()
                optimizer.step()
                model.zero_grad()
            assert hooks_anywhere() != hooks
            if raising:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert hooks_anywhere() == hooks
    assert attributes(model) == before


def test_the_model_can_be_copied_and_saved_during_and_after() -> None:
    model = Digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def check() -> None:
        twin = copy.deepcopy(model)
        assert same(list(twin.state_dict().values()), list(model.state_dict().values()))
        assert isinstance(pickle.loads(pickle.dumps(model)), Digits)
        torch.save(model, io.BytesIO())

    with gradscope.watch(model) as scope:
        model(digits_batch()).sum().backward()
        check()
        optimizer.step()
        rows = len(scope.frame())
        copy.deepcopy(model)(digits_batch()).sum().backward()
        assert len(scope.frame()) == rows
    check()


def test_memory_stays_flat() -> None:
    model = ResNet18()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    process = psutil.Process()

    def steps(count: int) -> int:
        for _ in range(count):
            optimizer.zero_grad()
            model(images_batch()).square().mean().backward()
            optimizer.step()
        gc.collect()
        return int(process.memory_info().rss)

    gc.disable()
    try:
        with gradscope.watch(model, every=1) as scope:
            scope._recorder.history._most = lambda: 32  # type: ignore[method-assign]  # full from the start
            start = steps(60)
            end = steps(140)
    finally:
        gc.enable()
    assert end - start < 8_000_000


def test_the_graph_of_a_step_is_freed() -> None:
    freed: list[bool] = []

    class Token(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.sentinel = Sentinel()
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            return gradients[0]

    class Sentinel:
        def __del__(self) -> None:
            freed.append(True)

    class Tokened(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = Token.apply(super().forward(x))
            return output

    model = nn.Sequential(Tokened(3, 3), nn.Tanh())
    gc.disable()
    try:
        with gradscope.watch(model):
            for _ in range(3):
                model(torch.randn(2, 3)).sum().backward()
                model.zero_grad()
            assert len(freed) == 3
    finally:
        gc.enable()
