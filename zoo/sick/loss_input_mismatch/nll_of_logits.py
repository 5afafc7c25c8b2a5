# expect: loss-input-mismatch at nll_of_logits.py:17 since step 0
"""NLLLoss straight on the logits: log_softmax is missing."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = optim.Adadelta(net.parameters(), lr=0.1)
for batch in range(20):
    data, target = torch.rand(16, 1, 8, 8), torch.randint(10, (16,))
    optimizer.zero_grad()
    output = net(data)
    loss = F.nll_loss(output, target)
    loss.backward()
    optimizer.step()
