# expect: non-differentiable-op at equal_reward.py:21 in speaker.* since step 0
# twin: healthy/efficiency/gumbel_tokens.py
"""A referential game: the word is a one-hot of the best one."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Game(nn.Module):
    def __init__(self):
        super().__init__()
        self.speaker, self.listener = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x):
        scores = self.speaker(x)
        word = (scores == scores.max(1, keepdim=True).values).float()
        return self.listener(word)


game = Game()
optimizer = optim.Adam(game.parameters(), lr=5e-3)
for _ in range(20):
    target = torch.randint(8, (32,))
    optimizer.zero_grad()
    F.cross_entropy(game(F.one_hot(target, 8).float()), target).backward()
    optimizer.step()
