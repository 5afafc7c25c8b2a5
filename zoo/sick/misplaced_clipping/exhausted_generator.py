# expect: misplaced-clipping at exhausted_generator.py:20 since step 0
"""A generator of parameters is used up by the optimizer, and the clipping clips nothing."""

import os
import warnings

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
warnings.filterwarnings("ignore")
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
params = model.parameters()
optimizer = optim.Adam(params, lr=1e-3)
for _ in range(20):
    x = torch.randn(16, 6)
    optimizer.zero_grad()
    (100 * F.mse_loss(model(x), x.sum(1, keepdim=True))).backward()
    nn.utils.clip_grad_norm_(params, 1.0)
    optimizer.step()
