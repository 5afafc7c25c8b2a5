"""The registry: which parameters come with which module, and how much it looks at to say so."""

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import torch
from torch import nn

from gradscope.hooks import registry
from gradscope.hooks.registry import Registry


class Block(nn.Module):
    """A layer with a parameter of its own, and one whose weight it uses without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(1, 1)
        self.unused = nn.Linear(1, 1)
        self.scale = nn.Parameter(nn.init.ones_(nn.Linear(1, 1).weight))


def deep(blocks: int) -> nn.Module:
    return nn.Sequential(*(nn.Sequential(*(Block() for _ in range(5))) for _ in range(blocks // 5)))


def in_order_of_return(module: nn.Module) -> Iterator[nn.Module]:
    """All modules but those that only their parents use."""
    for name, child in module.named_children():
        if name != "unused":
            yield from in_order_of_return(child)
    yield module


def first_step(names: Registry, model: nn.Module) -> dict[str, list[str]]:
    rows = [names.row(module) for module in in_order_of_return(model)]
    assert rows == list(range(len(rows)))
    return {names.executed[row].path: [item.path for item in names.under(row)] for row in range(len(rows))}


def lines(function: Callable[[], object]) -> int:
    """How many lines of the registry run."""
    count = 0

    def local(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        return local if frame.f_code.co_filename == registry.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def test_a_module_comes_with_its_own_parameters_and_those_of_modules_below_that_have_not_run() -> None:
    model = deep(5)
    names = Registry({"net": model})
    block = model.get_submodule("0.3")
    assert isinstance(block, Block)
    for module in (block.inner, block):
        row = names.row(module)
        assert row is not None
    assert [item.path for item in names.under(1)] == [
        f"net.0.3.{name}" for name in ("scale", "unused.weight", "unused.bias")
    ]
    root = names.row(model)
    assert root is not None
    paths = [item.path for item in names.under(root)]
    assert paths == [
        p for p in (item.path for item in names.parameters) if not p.startswith(("net.0.3.inner", "net.0.3.scale"))
    ]


def test_a_replaced_module_is_known_to_have_run() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    names = Registry({"": model})
    first = names.row(model[0])
    model[0] = nn.Linear(1, 1, bias=False)
    names.refresh_if_changed()
    assert names.row(model[0]) == first == 0
    assert [item.path for item in names.under(0)] == ["0.weight"]
    assert names.row(model) == 1
    assert [item.path for item in names.under(1)] == ["1.weight", "1.bias"]


def test_a_parameter_that_is_replaced_or_removed_is_noticed() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    names = Registry({"": model})
    for change in (
        lambda: setattr(model[0], "weight", nn.Parameter(torch.zeros(1, 1))),
        lambda: delattr(model[1], "bias"),
    ):
        generation = names.generation
        names.refresh_if_changed()
        assert names.generation == generation
        change()
        names.refresh_if_changed()
        assert names.generation == generation + 1


def test_what_a_module_costs_does_not_grow_with_the_model() -> None:
    def cost(blocks: int) -> float:
        model = deep(blocks)
        names = Registry({"": model})
        attached = lines(lambda: Registry({"": model}))
        return (attached + lines(lambda: first_step(names, model)) + lines(names.infos)) / blocks

    assert cost(200) < 1.2 * cost(50)
