"""Training without an optimizer: what is told from two backwards, and what is left alone."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from gradscope.hooks import by_hand
from gradscope.hooks.by_hand import MOST_BACKWARDS, ByHand, leaves

Update = Callable[[Tensor], object]


def in_place(parameter: Tensor) -> None:
    with torch.no_grad():
        parameter -= 0.1 * torch.as_tensor(parameter.grad)


def through_data(parameter: Tensor) -> None:
    parameter.data -= 0.1 * torch.as_tensor(parameter.grad)


def by_a_copy(parameter: Tensor) -> None:
    parameter.data = parameter.detach() - 0.1 * torch.as_tensor(parameter.grad)


@pytest.mark.parametrize("update", [in_place, through_data, by_a_copy])
def test_parameters_that_move_between_two_backwards_are_told_once(update: Update) -> None:
    original, told = torch.autograd.backward, list[list[Tensor]]()
    watcher = ByHand(told.append)
    watcher.start()
    model = nn.Linear(3, 1)
    for _ in range(3):
        assert not told
        model(torch.ones(2, 3)).sum().backward()
        if told:
            break
        for parameter in model.parameters():
            update(parameter)
    assert [{id(parameter) for parameter in each} for each in told] == [set(map(id, model.parameters()))]
    assert torch.autograd.backward is original


def test_backwards_that_train_nothing_are_left_alone_after_a_while() -> None:
    original, told = torch.autograd.backward, list[list[Tensor]]()
    watcher = ByHand(told.append)
    watcher.start()
    model = nn.Linear(3, 1)
    for _ in range(MOST_BACKWARDS):
        assert torch.autograd.backward is not original
        torch.autograd.backward([model(torch.ones(2, 3)).sum()])
    assert torch.autograd.backward is original
    assert not told


def test_a_backward_that_fails_fails_as_ever_and_leaves_nothing() -> None:
    original = torch.autograd.backward
    watcher = ByHand(lambda _: None)
    watcher.start()
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.ones(()).backward()
    watcher.stop()
    assert torch.autograd.backward is original


def test_an_exception_of_ours_ends_the_looking_and_not_the_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    original, told = torch.autograd.backward, list[list[Tensor]]()
    monkeypatch.setattr(by_hand, "leaves", lambda _: 1 / 0)
    watcher = ByHand(told.append)
    watcher.start()
    weight = torch.ones(2, requires_grad=True)
    weight.sum().backward()
    assert torch.as_tensor(weight.grad).tolist() == [1, 1]
    assert torch.autograd.backward is original


def test_what_others_put_around_it_stays() -> None:
    original = torch.autograd.backward
    watcher = ByHand(lambda _: None)
    watcher.start()
    ours = torch.autograd.backward
    try:
        torch.autograd.backward = theirs = partial(ours)
        watcher.stop()
        assert torch.autograd.backward is theirs
        torch.ones(2, requires_grad=True).sum().backward()
    finally:
        torch.autograd.backward = original


def test_leaves_are_found_through_the_graph_once() -> None:
    shared, other = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    loss = (shared * other + shared * shared).sum()
    assert {id(leaf) for leaf in leaves([loss, torch.ones(())])} == {id(shared), id(other)}
    assert len(list(leaves([loss]))) == 2
