"""What the sweep needs to know of an architecture."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture:
    """A model that can be built again and again, and one step of its training.

    Both functions draw from torch's global generator: under equal seeds they give equal models and losses.

    Attributes:
        name: how the library calls it, with what was changed.
        library: the package that it comes from.
        build: makes the model, small, with random weights, in training mode.
        loss: runs the model on random inputs and gives the loss, a scalar.
    """

    name: str
    library: str
    build: Callable[[], nn.Module]
    loss: Callable[[nn.Module], Tensor]
