"""Waiting for the first optimizer, and leaving its class as it was."""

import copy

import torch
from torch.optim.optimizer import Optimizer

from gradscope.running.first import METHODS, when_first_optimizer


def sgd() -> torch.optim.SGD:
    return torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=0.1)


def test_it_calls_back_before_the_first_one_only() -> None:
    before = {name: vars(Optimizer)[name] for name in METHODS}
    calls: list[int] = []
    when_first_optimizer(lambda: calls.append(1))
    made = sgd()
    assert made.param_groups[0]["lr"] == 0.1
    sgd()
    assert calls == [1]
    assert {name: vars(Optimizer)[name] for name in METHODS} == before


def test_a_copied_one_counts() -> None:
    made = sgd()
    calls: list[int] = []
    when_first_optimizer(lambda: calls.append(1))
    assert copy.deepcopy(made).param_groups[0]["lr"] == 0.1
    assert calls == [1]


def test_what_the_callback_puts_in_place_sees_the_first_one_made() -> None:
    original = Optimizer.__init__
    seen: list[Optimizer] = []

    def watching(optimizer: Optimizer, *args: object, **options: object) -> None:
        original(optimizer, *args, **options)  # type: ignore[arg-type]
        seen.append(optimizer)

    when_first_optimizer(lambda: setattr(Optimizer, "__init__", watching))
    try:
        made = sgd()
    finally:
        Optimizer.__init__ = original  # type: ignore[method-assign]
    assert seen == [made]


def test_it_can_be_called_off() -> None:
    before = Optimizer.__init__
    calls: list[int] = []
    when_first_optimizer(lambda: calls.append(1))()
    sgd()
    assert calls == []
    assert Optimizer.__init__ is before
