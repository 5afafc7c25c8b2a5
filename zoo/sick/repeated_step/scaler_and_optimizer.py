# expect: repeated-step at scaler_and_optimizer.py:40 since step 0
# twin: healthy/precision/grad_scaler.py
"""Mixed precision was added to an old loop: the scaler steps, and the old step is still there."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class DenoisingUNet(nn.Module):
    def __init__(self, c=8):
        super().__init__()
        self.down, self.middle = nn.Conv2d(1, c, 3, 2, 1), nn.Conv2d(c, c, 3, padding=1)
        self.up = nn.ConvTranspose2d(c, 1, 4, 2, 1)

    def forward(self, x):
        h = F.silu(self.down(x))
        return x + self.up(F.silu(self.middle(h)) + h)

    def loss(self, clean):
        noisy = clean + 0.3 * torch.randn_like(clean)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            restored = self(noisy)
        return F.mse_loss(restored.float(), clean)


net = DenoisingUNet()
optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for _ in range(20):
    loss = net.loss(torch.rand(4, 1, 16, 16))
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.step()
