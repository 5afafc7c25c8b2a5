# expect: nothing
"""Packed sequences of different lengths, and a last batch of one."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(5, 12, nonlinearity="tanh", batch_first=True)
        self.out = nn.Linear(12, 5)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.out(hidden)


net = Net()
optimizer = optim.RMSprop(net.parameters(), lr=1e-3)
for step in range(25):
    n = 1 if step % 5 == 4 else 8
    lengths = torch.randint(2, 12, (n,))
    x = torch.randn(n, int(lengths.max()), 5)
    out = net(x, lengths)
    valid = torch.arange(x.size(1)) < lengths[:, None]
    loss = ((out[:, :-1] - x[:, 1:]).square() * valid[:, 1:, None]).sum() / valid.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
