"""The programs whose step is timed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.architectures.compat import ensure_operators

Loss = Callable[[nn.Module], Tensor]


@dataclass(frozen=True)
class Workload:
    """A model and its loss on one fixed batch."""

    name: str
    build: Callable[[], tuple[nn.Module, Loss]]


def resnet18() -> tuple[nn.Module, Loss]:
    """ResNet-18, 16 images of 64 px."""
    ensure_operators()
    import torchvision  # noqa: PLC0415  only this workload needs it

    images, labels = torch.randn(16, 3, 64, 64), torch.randint(10, (16,))
    return torchvision.models.resnet18(num_classes=10), lambda model: cross_entropy(model(images), labels)


def gpt2() -> tuple[nn.Module, Loss]:
    """GPT-2 of 6 layers, 256 wide, on 4 sequences of 128 tokens."""
    ensure_operators()
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415  only this workload needs it

    tokens = torch.randint(1000, (4, 128))
    model = GPT2LMHeadModel(GPT2Config(vocab_size=1000, n_positions=128, n_embd=256, n_layer=6, n_head=4))
    return model, lambda net: net(tokens, labels=tokens).loss


def mlp(rows: int = 64) -> tuple[nn.Module, Loss]:
    """13 linear layers, 256 wide, 64 rows."""
    batch = torch.randn(rows, 256)
    layers = [layer for _ in range(13) for layer in (nn.Linear(256, 256), nn.ReLU())]
    return nn.Sequential(*layers[:-1]), lambda model: model(batch).square().mean()


def vit() -> tuple[nn.Module, Loss]:
    """ViT-Tiny of 12 layers, 192 wide, 8 images of 64 px."""
    ensure_operators()
    import timm  # noqa: PLC0415  only this workload needs it

    images, labels = torch.randn(8, 3, 64, 64), torch.randint(10, (8,))
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10)
    return model, lambda net: cross_entropy(net(images), labels)


class Small(nn.Module):
    """A residual block of three modules with next to nothing to do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.linear, self.activation = nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """Add to the inputs."""
        output: Tensor = inputs + self.activation(self.linear(self.norm(inputs)))
        return output


def small(blocks: int = 75, width: int = 32) -> tuple[nn.Module, Loss]:
    """75 residual blocks of three modules each, 32 wide, 16 rows: what each module costs weighs most here."""
    rows = torch.randn(16, width)
    return nn.Sequential(*(Small(width) for _ in range(blocks))), lambda model: model(rows).square().mean()


WORKLOADS = (
    Workload("ResNet-18", resnet18),
    Workload("GPT-2", gpt2),
    Workload("MLP", mlp),
    Workload("ViT", vit),
    Workload("301 small modules", small),
)
