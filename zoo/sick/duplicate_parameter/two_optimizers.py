# expect: duplicate-parameter at two_optimizers.py:24 in trunk.* since step 0
# twin: healthy/rl/soft_actor_critic.py
"""Two optimizers hold the trunk, and both step after the same loss."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
trunk, policy, value = nn.Linear(4, 24), nn.Linear(24, 2), nn.Linear(24, 1)
model = nn.ModuleDict({"trunk": trunk, "policy": policy, "value": value})
opt_p = optim.Adam([*trunk.parameters(), *policy.parameters()], lr=1e-3)
opt_v = optim.Adam([*trunk.parameters(), *value.parameters()], lr=1e-3)
for _ in range(25):
    s = torch.randn(16, 4)
    h = torch.tanh(trunk(s))
    loss = F.cross_entropy(policy(h), (s[:, 0] > 0).long()) + F.mse_loss(value(h).squeeze(1), s.sum(1))
    opt_p.zero_grad()
    opt_v.zero_grad()
    loss.backward()
    opt_p.step()
    opt_v.step()
