# expect: non-finite-value at entropy_of_certainty.py:28 since step 0
# twin: healthy/rl/ppo.py
"""An entropy bonus by hand, p * log p, where masked actions have a probability of exactly zero."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 24), nn.Tanh(), nn.Linear(24, 4))

    def forward(self, s, allowed):
        return self.net(s).masked_fill(~allowed, float("-inf")).softmax(1)


policy = Policy()
optimizer = optim.Adam(policy.parameters(), lr=1e-3)
for _ in range(12):
    s, allowed = torch.randn(16, 5), torch.rand(16, 4) < 0.7
    allowed[:, 0] = True
    p = policy(s, allowed)
    entropy = -(p * p.log()).sum(1)
    loss = -(p[:, 0] * s[:, 0]).mean() - 0.01 * entropy.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
