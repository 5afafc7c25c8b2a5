"""Watch a small network learn handwritten digits, or plant a fault and see it named.

    python examples/digits.py                          trains to more than 95 % in a few seconds
    python examples/digits.py --fault no-zero-grad     the same program with one mistake in it

The data are the 1,797 real images of 8x8 pixels that come with scikit-learn. Each fault swaps one part of
the healthy program for a faulty one: the network, the loss, the training step or the learning rate.
"""

import argparse
import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Optimizer
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

import gradscope
from gradscope.reports.plots import gradient_flow

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
TrainStep: TypeAlias = Callable[[nn.Module, Optimizer, Loss, Tensor, Tensor], Tensor]

# The healthy program -------------------------------------------------------------------------------------


def conv_block(channels: int, filters: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU; keeps the size of the image."""
    convolution = nn.Conv2d(channels, filters, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(filters), nn.ReLU())


class DigitsNet(nn.Module):
    """Images of shape (batch, 1, 8, 8) to logits of shape (batch, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_block(1, 16), conv_block(16, 32), nn.MaxPool2d(2), conv_block(32, 64), nn.MaxPool2d(2), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the ten digits."""
        logits: Tensor = self.head(self.features(images))
        return logits


def train_step(model: nn.Module, optimizer: Optimizer, loss_of: Loss, images: Tensor, labels: Tensor) -> Tensor:
    """One step on one batch; returns the loss."""
    optimizer.zero_grad()
    loss = loss_of(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss


# The faults ----------------------------------------------------------------------------------------------


def no_zero_grad(model: nn.Module, optimizer: Optimizer, loss_of: Loss, images: Tensor, labels: Tensor) -> Tensor:
    """Gradients of all steps add up."""
    loss = loss_of(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss


def zero_grad_too_late(model: nn.Module, optimizer: Optimizer, loss_of: Loss, images: Tensor, labels: Tensor) -> Tensor:
    """The gradients are gone when the optimizer wants them."""
    loss = loss_of(model(images), labels)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss


class DetachedNet(DigitsNet):
    """Only the head learns, because the graph ends at its input."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the ten digits."""
        features = self.features(images).detach()
        logits: Tensor = self.head(features)
        return logits


class SigmoidNet(nn.Sequential):
    """A network of ten sigmoid layers; each passes on a quarter of the gradient at most."""

    def __init__(self) -> None:
        layers = [nn.Sequential(nn.Linear(64, 64), nn.Sigmoid()) for _ in range(10)]
        super().__init__(nn.Flatten(), *layers, nn.Linear(64, 10))


class LinearFunction(torch.autograd.Function):
    """inputs @ weight.T with a hand-written backward, where grad.T @ inputs would be right for the weight."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        """Outputs of shape (batch, out), of inputs (batch, in) and a weight (out, in)."""
        ctx.save_for_backward(inputs, weight)
        return inputs @ weight.T

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor]:
        """Gradients of the inputs and, wrongly of shape (in, out), of the weight."""
        inputs, weight = ctx.saved_tensors
        return grads[0] @ weight, inputs.T @ grads[0]


class HandWrittenLinear(nn.Linear):
    """A linear layer that computes its own backward."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of shape (batch, out), of inputs (batch, in)."""
        outputs: Tensor = LinearFunction.apply(inputs, self.weight)
        return outputs + self.bias


class TransposedNet(DigitsNet):
    """The last layer is the hand-written one."""

    def __init__(self) -> None:
        super().__init__()
        self.head[3] = HandWrittenLinear(64, 10)


class TwoHeadedNet(DigitsNet):
    """An auxiliary head was built, and forward never calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary_head = nn.Linear(256, 10)


def log_of_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy as the textbook writes it. In half precision a probability below 6e-8 is 0, and log(0) is -inf."""
    probabilities = logits.half().softmax(dim=1)
    targets = functional.one_hot(labels, num_classes=10)
    return -(targets * probabilities.log()).sum(dim=1).mean()


@dataclass(frozen=True)
class Program:
    """The parts of a training program. `expected` names the analyzer that has to find its fault."""

    description: str
    expected: str = ""
    network: Callable[[], nn.Module] = DigitsNet
    loss_of: Loss = functional.cross_entropy
    train_step: TrainStep = train_step
    learning_rate: float = 0.01
    epochs: int = 2


HEALTHY = Program("a small convolutional network", epochs=12)

FAULTS = {
    "no-zero-grad": Program("the loop never calls optimizer.zero_grad()", "unzeroed-gradient", train_step=no_zero_grad),
    "zero-grad-before-step": Program(
        "optimizer.zero_grad() between backward() and step()", "cleared-gradient", train_step=zero_grad_too_late
    ),
    "detach": Program("detach() in the middle of forward", "detached-tensor", network=DetachedNet),
    "sigmoids": Program("ten sigmoid layers", "vanishing-gradient", network=SigmoidNet),
    "huge-learning-rate": Program("a learning rate of 10, not 0.01", "oversized-update", learning_rate=10.0),
    "log-of-zero": Program("log(softmax(x)) in half precision", "non-finite-value", loss_of=log_of_softmax, epochs=4),
    "transposed-backward": Program("a custom backward, transposed", "shape-mismatch", network=TransposedNet),
    "unused-head": Program("an auxiliary head that is never used", "unused-parameter", network=TwoHeadedNet),
}


# Training under watch ------------------------------------------------------------------------------------


class Images(NamedTuple):
    """What is trained on, and what the accuracy is measured on."""

    train: TensorDataset
    test: TensorDataset


@dataclass(frozen=True)
class Outcome:
    """What came of a run. `accuracy` is on the test images, in 0..1; NaN when the program raised `error`."""

    accuracy: float
    report: gradscope.Report
    scope: gradscope.Scope
    error: RuntimeError | None = None


def run(
    fault: str | None = None,
    *,
    epochs: int | None = None,
    logdir: Path | None = None,
    seed: int = 0,
    every: int | None = None,
    quiet: bool = False,
) -> Outcome:
    """Train the healthy program, or the one with this fault, under watch."""
    program = FAULTS[fault] if fault else HEALTHY
    torch.manual_seed(seed)
    model, accuracy, error = program.network(), math.nan, None
    try:
        with gradscope.watch(model, logdir=logdir, every=every) as scope:
            accuracy = train(model, program, load_images(seed), epochs or program.epochs, quiet=quiet)
    except RuntimeError as raised:
        error = raised
    return Outcome(accuracy, scope.report(), scope, error)


def load_images(seed: int) -> Images:
    """The images, a quarter of them for the test; pixels are in 0..1."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    train, test = train_test_split(range(len(labels)), test_size=0.25, stratify=labels, random_state=seed)
    return Images(TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test]))


def train(model: nn.Module, program: Program, data: Images, epochs: int, *, quiet: bool) -> float:
    """Train, and return the test accuracy. The progress bar is for terminals only; quiet: not there either."""
    batches = DataLoader(data.train, batch_size=64, shuffle=True, drop_last=True)
    optimizer = SGD(model.parameters(), lr=program.learning_rate, momentum=0.9)
    accuracy = math.nan
    with tqdm(total=epochs * len(batches), unit="step", disable=quiet or None) as progress:
        for _ in range(epochs):
            for images, labels in batches:
                loss = program.train_step(model, optimizer, program.loss_of, images, labels)
                progress.update()
            accuracy = accuracy_on(data.test, model)
            progress.set_postfix(loss=f"{loss.item():.4f}", accuracy=f"{accuracy:.3f}")
    return accuracy


@torch.no_grad()
def accuracy_on(images_and_labels: TensorDataset, model: nn.Module) -> float:
    """Share of the images that the model names right."""
    images, labels = images_and_labels.tensors
    model.eval()
    right = model(images).argmax(dim=1) == labels
    model.train()
    return float(right.float().mean())


# The command ---------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and print accuracy and report; returns 1 when the program itself raised an error."""
    options = parse(argv)
    torch.set_num_threads(1)  # for layers this small, threads cost more than they save
    folder = options.logdir / (options.fault or "healthy")
    outcome = run(options.fault, epochs=options.epochs, logdir=folder, seed=options.seed, every=options.every)
    if outcome.error:
        traceback.print_exception(outcome.error)
    else:
        print(f"test accuracy {100 * outcome.accuracy:.1f} %\n")
    gradscope.show(outcome.report)
    save_plot(outcome.scope, folder / "gradient_flow.png")
    print(f"\nplot: {folder / 'gradient_flow.png'}\ncharts: tensorboard --logdir {options.logdir}")
    return 1 if outcome.error else 0


def save_plot(scope: gradscope.Scope, file: Path) -> None:
    """Save a picture of the gradient in the last step that was measured, module by module."""
    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    gradient_flow(scope.recording, ax=figure.subplots())
    figure.savefig(file)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--fault", choices=list(FAULTS), help="plant this fault")
    parser.add_argument("--epochs", type=int, help="passes over the training images (12 when healthy)")
    parser.add_argument("--logdir", type=Path, default=Path("runs/digits"), help="for TensorBoard; default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the weights and the order of the images")
    parser.add_argument("--every", type=int, help="measure every so many steps, not as often as the cost allows")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
