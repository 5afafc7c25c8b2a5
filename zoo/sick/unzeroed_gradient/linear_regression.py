# expect: unzeroed-gradient at linear_regression.py:21 since step 1
# twin: healthy/loops/accumulation.py
"""Linear regression by hand, and nobody clears the gradients."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
x = torch.randn(200, 3)
y = x @ torch.tensor([[1.5], [-2.0], [0.5]]) + 0.1 * torch.randn(200, 1)

model = nn.Linear(3, 1)
optimizer = optim.SGD(model.parameters(), lr=1e-3)
criterion = nn.MSELoss()

for epoch in range(40):
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
    if epoch % 10 == 0:
        print(f"epoch {epoch} loss {loss.item():.4f}")
