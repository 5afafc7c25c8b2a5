# expect: nothing
"""Connectionist temporal classification over a bidirectional LSTM."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Speech(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(8, 16, 5, stride=2, padding=2)
        self.rnn = nn.LSTM(16, 16, bidirectional=True, batch_first=True)
        self.out = nn.Linear(32, 12)

    def forward(self, x):
        h = F.hardtanh(self.conv(x), 0, 20).transpose(1, 2)
        return self.out(self.rnn(h)[0]).log_softmax(-1)


model = Speech()
ctc = nn.CTCLoss(blank=0, zero_infinity=True)
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(12):
    log_p = model(torch.randn(4, 8, 60)).transpose(0, 1)
    targets = torch.randint(1, 12, (4, 7))
    loss = ctc(log_p, targets, torch.full((4,), log_p.size(0)), torch.randint(3, 8, (4,)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
