"""Small models that tests share."""

import torch
from torch import Tensor, nn


class Digits(nn.Module):
    """A CNN with batch norm, in-place ReLU and dropout on (N, 1, 8, 8) images."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(8 * 16, 10)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.head(self.drop(self.features(images).flatten(1)))
        return output


class Block(nn.Module):
    """A residual block whose ReLU and addition work in place."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(images)))))
        out += self.shortcut(images)
        relu: Tensor = self.relu(out)
        return relu


class ResNet18(nn.Module):
    """ResNet-18 for small images; `width` is the number of channels of the first stage (64 in the original)."""

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        stages = []
        inputs = width
        for outputs, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)):
            stages += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.head(self.stages(self.stem(images)).mean((2, 3)))
        return output


class Encoder(nn.Module):
    """Three transformer encoder layers with dropout over (N, 12) token ids; q, k and v are one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 3)
        self.head = nn.Linear(32, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.head(self.layers(self.embed(tokens)).mean(1))
        return output


def digits_batch() -> Tensor:
    """A batch for `Digits`."""
    return torch.randn(16, 1, 8, 8)


def images_batch() -> Tensor:
    """A batch for `ResNet18`."""
    return torch.randn(4, 3, 16, 16)


def tokens_batch() -> Tensor:
    """A batch for `Encoder`."""
    return torch.randint(50, (8, 12))
