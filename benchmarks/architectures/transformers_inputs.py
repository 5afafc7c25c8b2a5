"""Losses of transformers' models on random inputs."""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.architectures.transformers_options import SIDE, VOCABULARY

SPECIAL = 3
FRAMES = 4


def _tokens(length: int = 12) -> Tensor:
    return torch.randint(SPECIAL, VOCABULARY - 1, (2, length))


def _images(side: int = SIDE) -> Tensor:
    return torch.randn(2, 3, side, side)


def _labels() -> Tensor:
    return torch.randint(2, (2,))


def _loss(output: Any) -> Tensor:
    loss: Tensor = output.loss
    return loss


def text(model: nn.Module) -> Tensor:
    """Tokens that are their own labels."""
    tokens = _tokens()
    return _loss(model(input_ids=tokens, labels=tokens))


def image(model: nn.Module) -> Tensor:
    """Classification of images."""
    return _loss(model(pixel_values=_images(), labels=_labels()))


def masked_image(model: nn.Module) -> Tensor:
    """Reconstruction of images."""
    return _loss(model(pixel_values=_images()))


def pixels(model: nn.Module) -> Tensor:
    """Classification of pixels."""
    return _loss(model(pixel_values=_images(), labels=torch.randint(2, (2, SIDE, SIDE))))


def boxes(model: nn.Module) -> Tensor:
    """Detection of objects."""
    labels = [{"class_labels": _labels(), "boxes": torch.rand(2, 4) * 0.3 + 0.3} for _ in range(2)]
    return _loss(model(pixel_values=_images(2 * SIDE), labels=labels))


def video(model: nn.Module) -> Tensor:
    """Classification of videos."""
    return _loss(model(pixel_values=torch.randn(2, FRAMES, 3, SIDE, SIDE), labels=_labels()))


def image_and_text(model: nn.Module) -> Tensor:
    """Which text belongs to which image."""
    return _loss(model(input_ids=_tokens(), pixel_values=_images(), return_loss=True))


def caption(model: nn.Module) -> Tensor:
    """A text about an image."""
    tokens = _tokens()
    return _loss(model(input_ids=tokens, labels=tokens, pixel_values=_images()))


def chat(model: nn.Module) -> Tensor:
    """A text with the image's 16 patches at its beginning."""
    tokens = torch.cat([torch.full((2, 16), VOCABULARY - 1), _tokens()], 1)
    return _loss(model(input_ids=tokens, labels=tokens, pixel_values=_images()))


def speech(model: nn.Module) -> Tensor:
    """A transcript of a waveform."""
    return _loss(model(input_values=torch.randn(2, 800), labels=torch.randint(1, VOCABULARY, (2, 5))))


def spectrogram(shape: tuple[int, ...], model: nn.Module) -> Tensor:
    """A transcript of a spectrogram."""
    return _loss(model(input_features=torch.randn(2, *shape), labels=_tokens()))


def sound(model: nn.Module) -> Tensor:
    """Classification of a spectrogram."""
    return _loss(model(input_values=torch.randn(2, 64, 16), labels=_labels()))


def series(model: nn.Module) -> Tensor:
    """The future of time series."""
    return _loss(model(past_values=torch.randn(2, 32, 3), future_values=torch.randn(2, 4, 3)))


def decisions(model: nn.Module) -> Tensor:
    """Actions of an agent."""
    states, actions, returns = torch.randn(2, 6, 5), torch.randn(2, 6, 3), torch.randn(2, 6, 1)
    times = torch.arange(6).repeat(2, 1)
    output = model(
        states=states,
        actions=actions,
        rewards=returns,
        returns_to_go=returns,
        timesteps=times,
        attention_mask=torch.ones(2, 6),
    )
    loss: Tensor = (output.action_preds - actions).square().mean()
    return loss
