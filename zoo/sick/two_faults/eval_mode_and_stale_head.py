# expect: training-in-eval-mode at eval_mode_and_stale_head.py:36 in norm,drop since step 0
# expect: stale-optimizer at eval_mode_and_stale_head.py:36 in head.* since step 0
"""A head was replaced behind the optimizer's back, in a network that was loaded in eval mode."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body, self.norm, self.drop = nn.Linear(10, 24), nn.BatchNorm1d(24), nn.Dropout(0.3)
        self.head = nn.Linear(24, classes)

    def forward(self, x):
        return self.head(self.drop(F.relu(self.norm(self.body(x)))))


class FineTuner:
    def __init__(self, net, lr=1e-3):
        self.net, self.optimizer = net, optim.AdamW(net.parameters(), lr=lr)

    def set_classes(self, classes):
        self.net.head = nn.Linear(24, classes)

    def fit(self, steps):
        for _ in range(steps):
            x = torch.randn(32, 10)
            self.optimizer.zero_grad()
            F.cross_entropy(self.net(x), x[:, :3].argmax(1)).backward()
            self.optimizer.step()


tuner = FineTuner(Net(10).eval())
tuner.set_classes(3)
tuner.fit(20)
