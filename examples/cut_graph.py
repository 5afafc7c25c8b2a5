"""Three programs that train without an error and learn nothing of what they should. One line of each is to blame.

Run it with ``python examples/cut_graph.py``.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import gradscope


class Autoencoder(nn.Module):
    """Its code was detached once, for a plot, and stayed so: the encoder never learns."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        self.decoder = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        """Rows (N, 16), reconstructed."""
        code = self.encoder(x).detach()
        decoded: Tensor = self.decoder(code)
        return decoded


class Router(nn.Module):
    """It picks the best of four experts by argmax, which has no derivative: the scores never learn."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(16, 4)
        self.experts = nn.Embedding(4, 16)

    def forward(self, x: Tensor) -> Tensor:
        """Rows (N, 16), each scaled by its expert."""
        choice = self.scores(x).argmax(dim=1)
        routed: Tensor = x * self.experts(choice)
        return routed


def regression(model: nn.Module, x: Tensor) -> Tensor:
    """The targets are (32,), the predictions (32, 1): their difference is (32, 32)."""
    target = x.sum(dim=1)
    difference: Tensor = model(x) - target
    return (difference**2).mean()


def reconstruction(model: nn.Module, x: Tensor) -> Tensor:
    """Mean squared error."""
    return mse_loss(model(x), x)


def main() -> None:
    """Train each program under watch, and show what was found."""
    torch.manual_seed(0)
    for model, loss in (
        (Autoencoder(), reconstruction),
        (Router(), reconstruction),
        (nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1)), regression),
    ):
        optimizer = torch.optim.Adam(model.parameters())
        with gradscope.watch(model) as scope:
            for _ in range(10):
                optimizer.zero_grad()
                loss(model, torch.randn(32, 16)).backward()
                optimizer.step()
        (finding,) = scope.findings
        print()
        gradscope.show(finding)


if __name__ == "__main__":
    main()
