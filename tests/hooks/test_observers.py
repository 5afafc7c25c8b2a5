"""Observers hear of what they ask for, in the order of the loop."""

from typing import Any

import pytest
import torch
from torch import nn

import gradscope
from gradscope.hooks import attachment
from gradscope.hooks.observers import Observer, Observers
from gradscope.hooks.registry import Indices


class Diary(Observer):
    def __init__(self) -> None:
        self.entries: list[object] = []

    def run_begins(self) -> None:
        self.entries.append("run begins")

    def forward_begins(self) -> None:
        self.entries.append("forward")

    def backward_begins(self) -> None:
        self.entries.append("backward begins")

    def backward_ends(self) -> None:
        self.entries.append("backward ends")

    def optimizer_stepped(self, _optimizer: torch.optim.Optimizer, owned: Indices) -> None:
        self.entries.append(("stepped", len(owned)))

    def step_observed(self, owned: Indices) -> None:
        self.entries.append(("observed", len(owned)))

    def step_closed(self, step: int) -> None:
        self.entries.append(("closed", step))

    def rest_begins(self) -> None:
        self.entries.append("rest")

    def run_ends(self) -> None:
        self.entries.append("run ends")


class Closing(Observer):
    def step_closed(self, step: int) -> None:
        """The only event it hears of."""


def test_a_new_observer_hears_of_the_loop_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    diary = Diary()

    def with_it(*_parts: Any) -> Observers:
        return Observers(Closing(), diary)

    monkeypatch.setattr(attachment, "observers", with_it)
    net, other = nn.Linear(4, 1), nn.Linear(4, 1)
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.01) for module in (net, other)]
    with gradscope.watch(net, every=1):
        for _ in range(2):
            net(torch.randn(8, 4)).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    backward = ["forward", "backward begins", "backward ends"]
    stepped = [("stepped", 2), ("observed", 2), ("stepped", 0)]
    first, second = [*backward, *stepped, ("closed", 0)], [*backward, *stepped, "rest", ("closed", 1)]
    assert diary.entries == ["run begins", *first, *second, "run ends"]


def test_who_does_not_ask_for_an_event_is_not_called() -> None:
    closing, diary = Closing(), Diary()
    heard = Observers(closing, diary)
    assert heard.step_closed == [closing.step_closed, diary.step_closed]
    assert heard.backward_ends == [diary.backward_ends]
    everything = {name: calls for name, calls in vars(heard).items() if calls}
    assert everything.keys() == {name for name in vars(Observer) if not name.startswith("_")}
