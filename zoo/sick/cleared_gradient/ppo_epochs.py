# expect: cleared-gradient at ppo_epochs.py:31 since step 0
# twin: healthy/rl/ppo.py
"""PPO: clipping, clearing and stepping in the wrong order, in an agent class."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
from torch.distributions import Categorical


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.pi, self.v = nn.Linear(4, 3), nn.Linear(4, 1)
        self.optimizer = optim.Adam(self.parameters(), lr=3e-3)

    def learn(self, s, a, old, returns):
        for _ in range(3):
            d = Categorical(logits=self.pi(s))
            value = self.v(s).squeeze(1)
            advantage = returns - value.detach()
            ratio = (d.log_prob(a) - old).exp()
            loss = -torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean() + F.mse_loss(value, returns)
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(), 0.5)
            self.optimizer.zero_grad()
            self.optimizer.step()


agent = Agent()
for _ in range(6):
    with torch.no_grad():
        s = torch.randn(32, 4)
        d = Categorical(logits=agent.pi(s))
        a = d.sample()
    agent.learn(s, a, d.log_prob(a), (a == s[:, :3].argmax(1)).float())
