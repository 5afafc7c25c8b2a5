"""The programs whose step is timed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.architectures.compat import ensure_operators


@dataclass(frozen=True)
class Workload:
    """A model and its loss on one fixed batch."""

    name: str
    build: Callable[[], tuple[nn.Module, Callable[[nn.Module], Tensor]]]


def resnet18() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """ResNet-18, 16 images of 64 px."""
    ensure_operators()
    import torchvision  # noqa: PLC0415  only this workload needs it

    images, labels = torch.randn(16, 3, 64, 64), torch.randint(10, (16,))
    return torchvision.models.resnet18(num_classes=10), lambda model: cross_entropy(model(images), labels)


def gpt2() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """GPT-2 of 6 layers, 256 wide, on 4 sequences of 128 tokens."""
    ensure_operators()
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415  only this workload needs it

    tokens = torch.randint(1000, (4, 128))
    model = GPT2LMHeadModel(GPT2Config(vocab_size=1000, n_positions=128, n_embd=256, n_layer=6, n_head=4))
    return model, lambda net: net(tokens, labels=tokens).loss


def mlp() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """13 linear layers, 256 wide, 64 rows."""
    rows = torch.randn(64, 256)
    layers = [layer for _ in range(13) for layer in (nn.Linear(256, 256), nn.ReLU())]
    return nn.Sequential(*layers[:-1]), lambda model: model(rows).square().mean()


WORKLOADS = (Workload("ResNet-18", resnet18), Workload("GPT-2", gpt2), Workload("MLP", mlp))
