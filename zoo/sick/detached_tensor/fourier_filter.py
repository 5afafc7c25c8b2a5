# expect: detached-tensor in inp.* since step 0
"""A low-pass filter in numpy between two layers; what comes back has the shape that the input had."""

import os

import numpy as np
import torch
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", 0)))


def low_pass(x, keep=8):
    spectrum = np.fft.rfft(x.detach().numpy(), axis=-1)
    spectrum[..., keep:] = 0
    return torch.from_numpy(np.fft.irfft(spectrum, axis=-1)).float()


class SignalNet(nn.Module):
    def __init__(self, n=32):
        super().__init__()
        self.inp = nn.Linear(n, n)
        self.out = nn.Sequential(nn.Linear(n, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        x = self.inp(x)
        x = low_pass(x)
        return self.out(x)


net = SignalNet()
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
for step in range(50):
    freq = torch.randint(1, 6, (32, 1)).float()
    x = torch.sin(freq * torch.linspace(0, 6.28, 32)) + 0.2 * torch.randn(32, 32)
    loss = nn.functional.mse_loss(net(x), freq)
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
