"""Backpropagation by hand, next to what gradscope captured.

    python examples/backprop_by_hand.py

First a network of two layers, whose seven gradients are derived in NumPy and compared with the captured
ones, in float32 and in float64. Then a chain of ten sigmoids, where the gain across each is at most 0.25.
The derivation is explained in docs/backpropagation.md.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import gradscope

Array: TypeAlias = NDArray[Any]

FORMULAS = {
    "z2": "2 (z2 - y) / n",
    "W2": "a1^T dL/dz2",
    "b2": "sum over the batch of dL/dz2",
    "a1": "dL/dz2 W2^T",
    "z1": "dL/da1 * (z1 > 0)",
    "W1": "x^T dL/dz1",
    "b1": "sum over the batch of dL/dz1",
}
LIMITS = {torch.float32: 1e-6, torch.float64: 1e-12}
SIGMOID_BOUND = 0.25
SIGMOIDS, WIDTH = 10, 16


@dataclass(frozen=True)
class Problem:
    """Inputs (batch, in), targets (batch, out) and the weights of the network, as in x W1 + b1."""

    x: Array
    y: Array
    W1: Array
    b1: Array
    W2: Array
    b2: Array


def problem(
    dtype: torch.dtype, *, seed: int = 0, batch: int = 32, inputs: int = 8, hidden: int = 16, outputs: int = 4
) -> Problem:
    """Random numbers, the same ones for each dtype."""
    random = np.random.default_rng(seed)
    shapes = ((batch, inputs), (batch, outputs), (inputs, hidden), (hidden,), (hidden, outputs), (outputs,))
    return Problem(*(torch.from_numpy(random.standard_normal(shape)).to(dtype).numpy() for shape in shapes))


def by_hand(p: Problem) -> dict[str, Array]:
    """The gradients of L = mean((z2 - y)^2) by the chain rule, from the loss back to the first layer."""
    z1 = p.x @ p.W1 + p.b1
    a1 = np.maximum(z1, 0)
    z2 = a1 @ p.W2 + p.b2

    dz2 = 2 * (z2 - p.y) / z2.size
    dW2 = a1.T @ dz2  # noqa: N806
    db2 = dz2.sum(axis=0)
    da1 = dz2 @ p.W2.T
    dz1 = da1 * (z1 > 0)
    dW1 = p.x.T @ dz1  # noqa: N806
    db1 = dz1.sum(axis=0)
    return {"z2": dz2, "W2": dW2, "b2": db2, "a1": da1, "z1": dz1, "W1": dW1, "b1": db1}


class TwoLayers(nn.Module):
    """The same network in PyTorch, with the same weights; nn.Linear stores each W transposed."""

    def __init__(self, p: Problem) -> None:
        super().__init__()
        self.first = linear(p.W1, p.b1)
        self.relu = nn.ReLU()
        self.second = linear(p.W2, p.b2)

    def forward(self, x: Tensor) -> Tensor:
        """z2 of shape (batch, out)."""
        z2: Tensor = self.second(self.relu(self.first(x)))
        return z2


def linear(weight: Array, bias: Array) -> nn.Linear:
    """The layer x W + b."""
    layer = nn.Linear(*weight.shape)
    layer.weight = nn.Parameter(torch.from_numpy(weight.T.copy()))
    layer.bias = nn.Parameter(torch.from_numpy(bias.copy()))
    return layer


def captured(p: Problem) -> dict[str, Array]:
    """The gradients at the same seven places, as gradscope captured them in one ordinary training step."""
    model = TwoLayers(p)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, keep="*") as scope:
        optimizer.zero_grad()
        loss = ((model(torch.from_numpy(p.x)) - torch.from_numpy(p.y)) ** 2).mean()
        loss.backward()
        optimizer.step()
    return {
        "z2": scope.tensor("second", "activation_gradient").numpy(),
        "W2": scope.tensor("second.weight", "parameter_gradient").numpy().T,
        "b2": scope.tensor("second.bias", "parameter_gradient").numpy(),
        "a1": scope.tensor("relu", "activation_gradient").numpy(),
        "z1": scope.tensor("first", "activation_gradient").numpy(),
        "W1": scope.tensor("first.weight", "parameter_gradient").numpy().T,
        "b1": scope.tensor("first.bias", "parameter_gradient").numpy(),
    }


def relative_difference(left: Array, right: Array) -> float:
    """The largest difference, as a share of the largest magnitude."""
    return float(np.abs(left - right).max() / np.abs(left).max())


def comparison(dtype: torch.dtype) -> str:
    """One line for each of the seven places."""
    given = problem(dtype)
    hand, seen = by_hand(given), captured(given)
    title = f"derivative of the loss, {str(dtype).removeprefix('torch.')}"
    lines = [f"{'place':<8}{title:<34}{'largest value':>14}{'difference':>14}"]
    for place, formula in FORMULAS.items():
        largest, difference = np.abs(hand[place]).max(), relative_difference(hand[place], seen[place])
        lines.append(f"{place:<8}{formula:<34}{largest:>14.3f}{bounded(difference, LIMITS[dtype]):>14}")
    return "\n".join(lines)


def bounded(value: float, limit: float) -> str:
    """The limit when it holds, else the value: how numbers round differs from machine to machine."""
    return f"< {limit:.0e}" if value < limit else f"{value:.1e}"


def sigmoids_in_a_row() -> nn.Sequential:
    """Nothing but sigmoids after a first linear layer."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), *(nn.Sigmoid() for _ in range(SIGMOIDS)))


def sigmoid_layers() -> nn.Sequential:
    """Linear layers, each with a sigmoid after it."""
    layers = [(nn.Linear(WIDTH, WIDTH), nn.Sigmoid()) for _ in range(SIGMOIDS)]
    return nn.Sequential(*(module for layer in layers for module in layer))


def flow_of(build: Callable[[], nn.Module], seed: int = 0) -> pd.DataFrame:
    """How the gradient flows through a fresh model in its first training step."""
    torch.manual_seed(seed)
    model, inputs = build(), torch.randn(64, WIDTH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model) as scope:
        optimizer.zero_grad()
        (model(inputs) ** 2).mean().backward()
        optimizer.step()
    return scope.flow()


def back_from_the_loss(flow: pd.DataFrame) -> str:
    """The rows of a flow in the order in which the gradient comes by, without the row of the whole model."""
    rows = reversed(flow[flow["module"] != ""].to_dict("records"))
    head = f"{'module':<12}{'gradient_rms':>12}{'product':>11}{'gain':>8}{'bound':>8}"
    return "\n".join([head, *(map(flow_line, rows))])


def flow_line(row: Mapping[Hashable, Any]) -> str:
    """One module of a flow; nothing comes before the first one, and only a sigmoid has a bound."""
    name = f"{row['module']:>2} {row['module_type']}"
    gain = "" if np.isnan(row["gain"]) else f"{row['gain']:.3f}"
    limit = SIGMOID_BOUND if row["module_type"] == "Sigmoid" else ""
    return f"{name:<12}{row['gradient_rms']:>12.1e}{row['product']:>11.1e}{gain:>8}{limit:>8}".rstrip()


def sigmoid_gains(flow: pd.DataFrame) -> Array:
    """The gain across each sigmoid of a flow, in forward order."""
    return flow.loc[flow["module_type"] == "Sigmoid", "gain"].to_numpy()


def main() -> None:
    """Print both comparisons."""
    print("Seven gradients by hand; difference: from the captured ones, as a share of the largest value\n")
    print("\n\n".join(comparison(dtype) for dtype in LIMITS))
    for title, build in (("Ten sigmoids in a row", sigmoids_in_a_row), ("Ten sigmoid layers", sigmoid_layers)):
        flow = flow_of(build)
        gains = sigmoid_gains(flow)
        print(f"\n{title}, from the loss back\n\n{back_from_the_loss(flow)}\n")
        print(f"largest gain across a sigmoid {gains.max():>11.3f}, bound {SIGMOID_BOUND}")
        print(f"product of the ten sigmoids   {gains.prod():>11.1e}, bound {SIGMOID_BOUND**SIGMOIDS:.1e}")


if __name__ == "__main__":
    main()
