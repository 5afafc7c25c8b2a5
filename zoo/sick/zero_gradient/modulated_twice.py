# expect: zero-gradient at modulated_twice.py:25 in blocks.*,time.* since step 0
# twin: healthy/diffusion/ddpm.py
"""Blocks of a diffusion transformer: the gate begins at zero, as it should, and so does the projection behind it."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm = nn.LayerNorm(d, elementwise_affine=False)
        self.modulate, self.up, self.down = nn.Linear(d, 2 * d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        for layer in (self.modulate, self.down):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x, condition):
        shift, gate = self.modulate(condition).chunk(2, -1)
        return x + gate * self.down(F.silu(self.up(self.norm(x) + shift)))


class Denoiser(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.read, self.time, self.out = nn.Linear(4, d), nn.Linear(1, d), nn.Linear(d, 4)
        self.blocks = nn.ModuleList(Block(d) for _ in range(2))

    def forward(self, x, t):
        h, condition = self.read(x), F.silu(self.time(t))
        for block in self.blocks:
            h = block(h, condition)
        return self.out(h)


class Trainer:
    def __init__(self, model):
        self.model, self.optimizer = model, optim.AdamW(model.parameters(), lr=1e-3)

    def step(self, x):
        t, noise = torch.rand(len(x), 1), torch.randn_like(x)
        loss = F.mse_loss(self.model((1 - t) * x + t * noise, t), noise)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


trainer = Trainer(Denoiser())
for _ in range(25):
    trainer.step(torch.randn(32, 4) + 2)
