"""Real models from their own libraries, in small configurations and with random weights."""

from collections.abc import Iterator

from benchmarks.architectures import timm_models, torchvision_models, transformers_models
from benchmarks.architectures.architecture import Architecture

LIBRARIES = ("torchvision", "timm", "transformers")


def architectures() -> Iterator[Architecture]:
    """All of them, each made only when it is built."""
    yield from torchvision_models.architectures()
    yield from timm_models.architectures()
    yield from transformers_models.architectures()
