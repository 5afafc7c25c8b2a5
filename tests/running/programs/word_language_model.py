"""A language model with an LSTM: truncated backpropagation through time, clipping, updates by hand."""

import math

import torch
from torch import Tensor, nn

torch.manual_seed(1111)
ntokens, bptt, batch_size = 30, 12, 8
Hidden = tuple[Tensor, Tensor]


class RNNModel(nn.Module):
    def __init__(self, ninp: int, nhid: int, nlayers: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntokens, ninp)
        self.rnn = nn.LSTM(ninp, nhid, nlayers, dropout=dropout)
        self.decoder = nn.Linear(nhid, ntokens)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        self.nlayers, self.nhid = nlayers, nhid

    def forward(self, data: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        emb = self.drop(self.encoder(data))
        output, hidden = self.rnn(emb, hidden)
        decoded = self.decoder(self.drop(output)).view(-1, ntokens)
        return torch.log_softmax(decoded, dim=1), hidden

    def init_hidden(self, bsz: int) -> Hidden:
        weight = next(self.parameters())
        return weight.new_zeros(self.nlayers, bsz, self.nhid), weight.new_zeros(self.nlayers, bsz, self.nhid)


def repackage_hidden(h: Hidden) -> Hidden:
    return h[0].detach(), h[1].detach()


def get_batch(source: Tensor, i: int) -> tuple[Tensor, Tensor]:
    seq_len = min(bptt, len(source) - 1 - i)
    return source[i : i + seq_len], source[i + 1 : i + 1 + seq_len].reshape(-1)


words = torch.cumsum(torch.randint(1, 3, (2000,)), 0) % ntokens
corpus = words[: len(words) // batch_size * batch_size].view(batch_size, -1).t().contiguous()
model = RNNModel(16, 32, 2, 0.2)
criterion = nn.NLLLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=2.0)

for epoch in range(1, 3):
    model.train()
    total_loss = 0.0
    hidden = model.init_hidden(batch_size)
    for batch, i in enumerate(range(0, corpus.size(0) - 1, bptt)):
        data, targets = get_batch(corpus, i)
        optimizer.zero_grad()
        hidden = repackage_hidden(hidden)
        output, hidden = model(data, hidden)
        loss = criterion(output, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        total_loss += loss.item()
    print(f"| epoch {epoch} | loss {total_loss / (batch + 1):5.2f} | ppl {math.exp(total_loss / (batch + 1)):8.2f}")
    model.eval()
    with torch.no_grad():
        output, _ = model(corpus[:10], model.init_hidden(batch_size))
    print(f"eval {criterion(output, corpus[1:11].reshape(-1)).item():.4f}")
