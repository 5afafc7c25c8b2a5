"""Losses on random inputs that many architectures share."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def classify(size: int | tuple[int, ...], model: nn.Module, *, batch: int = 2, channels: int = 3) -> Tensor:
    """Cross entropy of random labels, summed over all outputs: of images, or of pixels and voxels.

    `size` is the side of a square image, or the whole shape behind the channels.
    """
    shape = (size, size) if isinstance(size, int) else size
    return sum(map(_cross_entropy, outputs(model(torch.randn(batch, channels, *shape)))), torch.zeros(()))


def outputs(output: Any) -> Iterator[Tensor]:
    """All tensors in a model's output."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from outputs(output.values())
    elif isinstance(output, Iterable):
        for item in output:
            yield from outputs(item)


def _cross_entropy(logits: Tensor) -> Tensor:
    labels = torch.randint(logits.shape[1], (len(logits), *logits.shape[2:]))
    return functional.cross_entropy(logits, labels)
