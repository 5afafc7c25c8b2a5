# expect: nothing
"""Two generators with one optimizer over both, two discriminators, identity and cycle losses."""

import itertools
import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


def net(out):
    return nn.Sequential(nn.Linear(4, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, out))


ab, ba, da, db = net(4), net(4), net(1), net(1)
opt_g = optim.Adam(itertools.chain(ab.parameters(), ba.parameters()), lr=2e-4, betas=(0.5, 0.999))
opt_da, opt_db = optim.Adam(da.parameters(), lr=2e-4), optim.Adam(db.parameters(), lr=2e-4)
mse, one, zero = nn.MSELoss(), torch.ones(16, 1), torch.zeros(16, 1)
for step in range(20):
    a, b = torch.randn(16, 4), torch.randn(16, 4) + 1
    fake_b, fake_a = ab(a), ba(b)
    opt_g.zero_grad()
    loss = mse(db(fake_b), one) + mse(da(fake_a), one)
    loss = loss + 10 * (F.l1_loss(ba(fake_b), a) + F.l1_loss(ab(fake_a), b)) + 5 * F.l1_loss(ab(b), b)
    loss.backward()
    opt_g.step()
    for d, opt, real, fake in ((da, opt_da, a, fake_a), (db, opt_db, b, fake_b)):
        opt.zero_grad()
        (0.5 * (mse(d(real), one) + mse(d(fake.detach()), zero))).backward()
        opt.step()
