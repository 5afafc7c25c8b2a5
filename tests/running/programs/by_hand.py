"""A regression with plain gradient descent, written out: no optimizer of torch's."""

import torch
from torch import nn

torch.manual_seed(0)
inputs = torch.randn(256, 8)
targets = (inputs[:, :3].sum(1, keepdim=True)).sin()
model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))

for step in range(200):
    loss = (model(inputs) - targets).square().mean()
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(0.1 * torch.as_tensor(parameter.grad))
    if step % 50 == 0:
        print(f"{step}: {loss.item():.4f}")
