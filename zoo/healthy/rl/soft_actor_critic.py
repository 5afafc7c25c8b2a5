# expect: nothing
"""Soft actor-critic: twin critics, a squashed policy, a temperature with an optimizer of its own, delayed targets."""

import copy
import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
from torch.distributions import Normal


def mlp(i, o):
    return nn.Sequential(nn.Linear(i, 32), nn.ReLU(), nn.Linear(32, o))


class Agent:
    def __init__(self):
        self.actor, self.q1, self.q2 = mlp(3, 2), mlp(4, 1), mlp(4, 1)
        self.t1, self.t2 = copy.deepcopy(self.q1), copy.deepcopy(self.q2)
        self.log_alpha = torch.zeros((), requires_grad=True)
        self.pi_opt = optim.Adam(self.actor.parameters(), lr=3e-4)
        self.q_opt = optim.Adam([*self.q1.parameters(), *self.q2.parameters()], lr=3e-4)
        self.alpha_opt = optim.Adam([self.log_alpha], lr=3e-4)

    def act(self, s):
        mean, log_std = self.actor(s).chunk(2, 1)
        d = Normal(mean, log_std.clamp(-5, 2).exp())
        u = d.rsample()
        a = torch.tanh(u)
        return a, (d.log_prob(u) - torch.log(1 - a.square() + 1e-6)).sum(1)

    def update(self, s, a, r, n):
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            na, nlp = self.act(n)
            x = torch.cat([n, na], 1)
            goal = r + 0.99 * (torch.min(self.t1(x), self.t2(x)).squeeze(1) - alpha * nlp)
        x = torch.cat([s, a], 1)
        self.q_opt.zero_grad()
        (F.mse_loss(self.q1(x).squeeze(1), goal) + F.mse_loss(self.q2(x).squeeze(1), goal)).backward()
        self.q_opt.step()
        pa, lp = self.act(s)
        x = torch.cat([s, pa], 1)
        self.pi_opt.zero_grad()
        (alpha * lp - torch.min(self.q1(x), self.q2(x)).squeeze(1)).mean().backward()
        self.pi_opt.step()
        self.alpha_opt.zero_grad()
        (-self.log_alpha.exp() * (lp.detach() - 1.0)).mean().backward()
        self.alpha_opt.step()
        with torch.no_grad():
            for t, q in ((self.t1, self.q1), (self.t2, self.q2)):
                for pt, pq in zip(t.parameters(), q.parameters()):
                    pt.mul_(0.995).add_(0.005 * pq)


agent = Agent()
for _ in range(15):
    s, a = torch.randn(32, 3), torch.rand(32, 1) * 2 - 1
    agent.update(s, a, -s.abs().sum(1), s + 0.1 * a)
