# expect: non-differentiable-op at hard_mask.py:19 in selector.* since step 0
# twin: healthy/efficiency/learned_gate.py
"""Feature selection by a hard threshold on logits."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
selector = nn.Linear(12, 12)
predictor = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 1))
model = nn.ModuleDict({"selector": selector, "predictor": predictor})
opt = optim.Adam(model.parameters(), lr=1e-3)
for i in range(20):
    x = torch.randn(32, 12)
    y = x[:, :3].sum(1, keepdim=True)
    mask = (selector(x) > 0).float()
    loss = F.mse_loss(predictor(x * mask), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
