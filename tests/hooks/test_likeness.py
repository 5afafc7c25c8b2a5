"""Which weights count as all alike, by their values alone."""

import pytest
import torch
from torch import Tensor, nn

from gradscope.hooks.likeness import likenesses
from gradscope.hooks.registry import Registry
from gradscope.inventory import Likeness


def alike(values: Tensor, *, trainable: bool = True) -> list[Likeness]:
    net = nn.Module()
    net.weight = nn.Parameter(values, requires_grad=trainable)
    return list(likenesses(Registry({"net": net})))


ROW = torch.tensor([0.3, -0.1, 0.2, 0.7])


def test_equal_rows_are_alike_and_counted() -> None:
    assert alike(ROW.repeat(3, 1)) == [Likeness("net.weight", 3)]


def test_equal_columns_are_alike_and_counted() -> None:
    assert alike(ROW.repeat(3, 1).T) == [Likeness("net.weight", 3, columns=True)]


def test_nearly_equal_rows_tell_how_far_they_are_apart() -> None:
    rows = ROW.repeat(3, 1)
    rows[1, 2] += 0.001
    (found,) = alike(rows)
    assert found.spread == pytest.approx(0.001, rel=1e-3)


def test_filters_of_a_convolution_are_its_units() -> None:
    filters = torch.randn(1, 2, 3, 3)
    assert alike(filters.repeat(5, 1, 1, 1)) == [Likeness("net.weight", 5)]
    flat = torch.randn(5, 1, 1, 1).expand(5, 2, 3, 3).clone()  # each averages, and each by another factor
    assert alike(flat) == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("random", torch.randn(4, 5)),
        ("a row in the middle that differs", torch.stack([ROW, ROW + 1, ROW])),
        ("zeros, of which nothing can be told", torch.zeros(4, 5)),
        ("a vector", torch.ones(8)),
        ("one unit", torch.randn(1, 8)),
        ("single numbers", torch.ones(8, 1)),
        ("a row that is infinite", torch.stack([ROW / 0, ROW, ROW])),
        ("infinite", torch.full((4, 5), float("inf"))),
        ("not a number", torch.full((4, 5), float("nan"))),
        ("sparse", torch.ones(4, 5).to_sparse()),
        ("without values", torch.ones(4, 5, device="meta")),
    ],
)
def test_silent_on(name: str, values: Tensor) -> None:
    assert alike(values) == []


def test_silent_on_what_is_frozen() -> None:
    assert alike(ROW.repeat(3, 1), trainable=False) == []
