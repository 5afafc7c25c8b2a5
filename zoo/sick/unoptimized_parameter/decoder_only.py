# expect: unoptimized-parameter at decoder_only.py:28 in encoder.* since step 0
"""A sequence to sequence script: the list of parameters is that of the decoder alone."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.ModuleDict(
    {
        "encoder": nn.GRU(5, 16, batch_first=True),
        "decoder": nn.GRU(1, 16, batch_first=True),
        "out": nn.Linear(16, 1),
    }
)
optimizer = optim.SGD([*model["decoder"].parameters(), *model["out"].parameters()], lr=0.1)
for step in range(25):
    history = torch.randn(12, 10, 5)
    future = history[:, :4].sum(2, keepdim=True)
    _, state = model["encoder"](history)
    shifted = F.pad(future, (0, 0, 1, 0))[:, :-1]
    prediction = model["out"](model["decoder"](shifted, state)[0])
    loss = F.mse_loss(prediction, future)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
