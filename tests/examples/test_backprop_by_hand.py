"""The gradients derived by hand are the captured ones, the bound holds, and the page shows what the example prints."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from backprop_by_hand import (
    LIMITS,
    SIGMOID_BOUND,
    SIGMOIDS,
    WIDTH,
    Array,
    by_hand,
    captured,
    flow_of,
    main,
    problem,
    relative_difference,
    sigmoid_gains,
    sigmoid_layers,
    sigmoids_in_a_row,
)
from torch import nn

PAGE = Path(__file__).parents[2] / "docs" / "backpropagation.md"
SHAPES = (
    {"seed": 1, "batch": 5, "inputs": 3, "hidden": 7, "outputs": 2},
    {"seed": 2, "batch": 64, "inputs": 20, "hidden": 33, "outputs": 10},
)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("shapes", SHAPES)
def test_captured_gradients_are_the_ones_derived_by_hand(dtype: torch.dtype, shapes: dict[str, int]) -> None:
    given = problem(dtype, **shapes)
    hand, seen = by_hand(given), captured(given)
    assert list(hand) == list(seen) == ["z2", "W2", "b2", "a1", "z1", "W1", "b1"]
    for place in hand:
        assert hand[place].shape == seen[place].shape
        assert hand[place].dtype == seen[place].dtype
        assert relative_difference(hand[place], seen[place]) < LIMITS[dtype], place


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("build", [sigmoids_in_a_row, sigmoid_layers])
def test_a_sigmoid_passes_on_a_quarter_at_most(build: Callable[[], nn.Module], seed: int) -> None:
    gains = sigmoid_gains(flow_of(build, seed))
    assert len(gains) == SIGMOIDS
    assert ((gains > 0) & (gains <= SIGMOID_BOUND)).all()


def test_gains_are_those_that_autograd_gives() -> None:
    assert sigmoid_gains(flow_of(sigmoid_layers)) == pytest.approx(gains_by_autograd(seed=0), rel=1e-4)


def gains_by_autograd(seed: int) -> Array:
    """The same model as in `flow_of`, without gradscope."""
    torch.manual_seed(seed)
    model, here = sigmoid_layers(), []
    here.append(torch.randn(64, WIDTH))
    for module in model:
        here.append(module(here[-1]))
        here[-1].retain_grad()
    (here[-1] ** 2).mean().backward()
    sizes = [float(tensor.grad.norm()) for tensor in here[1:] if tensor.grad is not None]
    gains: Array = np.array(sizes[0::2]) / np.array(sizes[1::2])
    return gains


def test_the_page_shows_what_the_example_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    printed = capsys.readouterr().out
    pasted = "".join(re.findall(r"```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    assert [line for line in pasted.splitlines() if line] == [line for line in printed.splitlines() if line]
