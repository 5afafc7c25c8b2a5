"""The forward-forward algorithm: each layer has an optimizer and a loss of its own, and nothing goes further back."""

import torch
from torch import Tensor, nn
from torch.optim import Adam

torch.manual_seed(1234)


class Layer(nn.Linear):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.relu = torch.nn.ReLU()
        self.opt = Adam(self.parameters(), lr=0.03)
        self.threshold = 2.0
        self.num_epochs = 12

    def forward(self, x: Tensor) -> Tensor:
        x_direction = x / (x.norm(2, 1, keepdim=True) + 1e-4)
        return self.relu(torch.mm(x_direction, self.weight.T) + self.bias.unsqueeze(0))

    def train_layer(self, x_pos: Tensor, x_neg: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(self.num_epochs):
            g_pos = self.forward(x_pos).pow(2).mean(1)
            g_neg = self.forward(x_neg).pow(2).mean(1)
            loss = torch.log(1 + torch.exp(torch.cat([-g_pos + self.threshold, g_neg - self.threshold]))).mean()
            self.opt.zero_grad()
            loss.backward()
            self.opt.step()
        print(f"layer loss {loss.item():.4f}")
        return self.forward(x_pos).detach(), self.forward(x_neg).detach()


class Net(torch.nn.Module):
    def __init__(self, dims: list[int]) -> None:
        super().__init__()
        self.layers = [Layer(dims[d], dims[d + 1]) for d in range(len(dims) - 1)]

    def train_net(self, x_pos: Tensor, x_neg: Tensor) -> None:
        h_pos, h_neg = x_pos, x_neg
        for layer in self.layers:
            h_pos, h_neg = layer.train_layer(h_pos, h_neg)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        goodness = []
        for label in range(10):
            h = overlay(x, torch.full((len(x),), label))
            score = torch.zeros(len(x))
            for layer in self.layers:
                h = layer(h)
                score = score + h.pow(2).mean(1)
            goodness.append(score.unsqueeze(1))
        return torch.cat(goodness, 1).argmax(1)


def overlay(x: Tensor, y: Tensor) -> Tensor:
    x_ = x.clone()
    x_[:, :10] *= 0.0
    x_[range(x.shape[0]), y] = x.max()
    return x_


labels = torch.randint(10, (128,))
images = torch.randn(10, 64)[labels] + 0.3 * torch.randn(128, 64)
net = Net([64, 48, 48])
net.train_net(overlay(images, labels), overlay(images, labels[torch.randperm(128)]))
print(f"train error: {1.0 - net.predict(images).eq(labels).float().mean().item():.3f}")
