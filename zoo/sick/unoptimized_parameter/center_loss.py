# expect: unoptimized-parameter in CenterLoss.centers since step 0
"""A center loss has parameters of its own, and nobody passes them to the optimizer."""

import os

import torch
from torch import nn


class CenterLoss(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.centers = nn.Parameter(torch.randn(classes, dim))

    def forward(self, feats, labels):
        return (feats - self.centers[labels]).pow(2).sum(1).mean()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 64), nn.PReLU(), nn.Linear(64, 8))
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        f = self.body(x)
        return f, self.fc(f)


def main():
    torch.manual_seed(int(os.environ.get("SEED", 0)))
    net, ce, center = Net(), nn.CrossEntropyLoss(), CenterLoss(5, 8)
    opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    proto = torch.randn(5, 16)
    for i in range(80):
        y = torch.randint(0, 5, (64,))
        x = proto[y] + 0.3 * torch.randn(64, 16)
        feats, logits = net(x)
        loss = ce(logits, y) + 0.003 * center(feats, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(loss.item())


main()
