# expect: nothing
"""Link prediction with embeddings only, one of which has no edge and no gradient; negative samples each step."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Links(nn.Module):
    def __init__(self, n=40, relations=3, d=8):
        super().__init__()
        self.nodes, self.relations = nn.Embedding(n, d, max_norm=1.0), nn.Embedding(relations, d)

    def forward(self, head, relation, tail):
        return -(self.nodes(head) + self.relations(relation) - self.nodes(tail)).norm(p=1, dim=1)


model = Links()
optimizer = optim.Adagrad(model.parameters(), lr=0.1)
edges = torch.stack([torch.randint(39, (100,)), torch.randint(3, (100,)), torch.randint(39, (100,))])
for _ in range(30):
    h, r, t = edges[:, torch.randint(100, (32,))]
    loss = F.margin_ranking_loss(model(h, r, t), model(h, r, torch.randint(39, (32,))), torch.ones(32), margin=1.0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
