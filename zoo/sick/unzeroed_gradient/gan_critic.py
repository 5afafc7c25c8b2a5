# expect: unzeroed-gradient at gan_critic.py:22 since step 1
# twin: healthy/gans/plain_gan.py
"""A GAN that clears the generator's gradients only: the critic keeps what the generator's loss left, and its own."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
g_opt = optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
d_opt = optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.999))
bce = nn.BCEWithLogitsLoss()

for step in range(30):
    real = torch.randn(32, 2) * 0.3 + torch.tensor([1.0, -1.0])
    fake = generator(torch.randn(32, 4))
    d_loss = bce(critic(real), torch.ones(32, 1)) + bce(critic(fake.detach()), torch.zeros(32, 1))
    d_loss.backward()
    d_opt.step()

    g_opt.zero_grad()
    g_loss = bce(critic(fake), torch.ones(32, 1))
    g_loss.backward()
    g_opt.step()
