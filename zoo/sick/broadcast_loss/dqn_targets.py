# expect: broadcast-loss at dqn_targets.py:21 since step 0
# twin: healthy/rl/dqn.py
"""Q values gathered as a column, targets as a row."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
q = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
target_q = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
target_q.load_state_dict(q.state_dict())
optimizer = optim.Adam(q.parameters(), lr=1e-3)
for step in range(25):
    state, following = torch.randn(32, 4), torch.randn(32, 4)
    action, reward = torch.randint(2, (32, 1)), torch.randn(32)
    with torch.no_grad():
        goal = reward + 0.99 * target_q(following).max(1).values
    chosen = q(state).gather(1, action)
    loss = (chosen - goal).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 9:
        target_q.load_state_dict(q.state_dict())
