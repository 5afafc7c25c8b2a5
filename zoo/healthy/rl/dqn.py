# expect: nothing
"""Deep Q-learning: a target network, a replay buffer, and learning that begins after a warm-up."""

import os
import random

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
from collections import deque


class Q(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 32), nn.ReLU())
        self.value, self.advantage = nn.Linear(32, 1), nn.Linear(32, 2)

    def forward(self, s):
        h = self.body(s)
        a = self.advantage(h)
        return self.value(h) + a - a.mean(1, keepdim=True)


q, target = Q(), Q()
target.load_state_dict(q.state_dict())
optimizer = optim.Adam(q.parameters(), lr=1e-3)
memory = deque(maxlen=500)
state = torch.randn(3)
for t in range(120):
    with torch.no_grad():
        action = random.randrange(2) if random.random() < 0.2 else int(q(state[None]).argmax())
    following = 0.9 * state + (2 * action - 1) * 0.1 + 0.05 * torch.randn(3)
    memory.append((state, action, -following.abs().sum(), following))
    state = following
    if len(memory) < 32 or t % 2:
        continue
    s, a, r, n = zip(*random.sample(list(memory), 32))
    s, a, r, n = torch.stack(s), torch.tensor(a), torch.stack(r), torch.stack(n)
    with torch.no_grad():
        goal = r + 0.95 * target(n).max(1).values
    loss = F.smooth_l1_loss(q(s).gather(1, a[:, None]).squeeze(1), goal)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(q.parameters(), 100)
    optimizer.step()
    if t % 20 == 0:
        target.load_state_dict(q.state_dict())
