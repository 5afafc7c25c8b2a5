# expect: leaked-gradient at translation_without_detach.py:43 in generator.* by step 3
# twin: healthy/gans/cycle_gan.py
"""Images to images: the fake is made once for both losses, and the critic's backward reaches who has made it."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Pix2Pix(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
        self.critic = nn.Sequential(nn.Conv2d(2, 8, 3), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 3))

    def judge(self, sketch, image):
        return self.critic(torch.cat([sketch, image], 1))

    def critic_loss(self, sketch, photo, fake):
        real, made = self.judge(sketch, photo), self.judge(sketch, fake)
        return F.softplus(-real).mean() + F.softplus(made).mean()

    def generator_loss(self, sketch, photo):
        fake = self.generator(sketch)
        return F.l1_loss(fake, photo) - 0.01 * self.judge(sketch, fake).mean()


net = Pix2Pix()
g_opt = optim.SGD(net.generator.parameters(), lr=0.02)
c_opt = optim.SGD(net.critic.parameters(), lr=0.02)
g_opt.zero_grad()
for _ in range(20):
    photo = torch.rand(8, 1, 12, 12)
    sketch = (photo > 0.5).float()
    c_opt.zero_grad()
    net.critic_loss(sketch, photo, net.generator(sketch)).backward()
    c_opt.step()
    net.generator_loss(sketch, photo).backward()
    g_opt.step()
    g_opt.zero_grad()
