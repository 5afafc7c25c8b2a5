"""Digits by a small convolutional network: loaders, dropout, a schedule, an evaluation after each epoch."""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, 1)
        self.conv2 = nn.Conv2d(8, 16, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(16 * 4 * 4, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(F.max_pool2d(x, 2))
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        x = self.fc2(self.dropout2(x))
        return F.log_softmax(x, dim=1)


def digits(count: int) -> TensorDataset:
    labels = torch.randint(10, (count,))
    prototypes = torch.randn(10, 1, 12, 12, generator=torch.Generator().manual_seed(7))
    return TensorDataset(prototypes[labels] + 0.3 * torch.randn(count, 1, 12, 12), labels)


def train(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]], optimizer: optim.Optimizer, epoch: int) -> None:
    model.train()
    for batch, (data, target) in enumerate(loader):
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()
        if batch % 4 == 0:
            print(f"Train Epoch: {epoch} [{batch * len(data)}/512]\tLoss: {loss.item():.6f}")


def test(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]]) -> None:
    model.eval()
    loss, correct = 0.0, 0
    with torch.no_grad():
        for data, target in loader:
            output = model(data)
            loss += F.nll_loss(output, target, reduction="sum").item()
            correct += int((output.argmax(dim=1) == target).sum())
    print(f"Test set: Average loss: {loss / 256:.4f}, Accuracy: {correct}/256")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--gamma", type=float, default=0.7)
    args = parser.parse_args()
    torch.manual_seed(1)
    train_loader = DataLoader(digits(512), batch_size=32, shuffle=True)
    test_loader = DataLoader(digits(256), batch_size=64)
    model = Net()
    optimizer = optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = StepLR(optimizer, step_size=1, gamma=args.gamma)
    for epoch in range(1, args.epochs + 1):
        train(model, train_loader, optimizer, epoch)
        test(model, test_loader)
        scheduler.step()


if __name__ == "__main__":
    main()
