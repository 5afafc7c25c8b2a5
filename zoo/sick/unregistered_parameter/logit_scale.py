# expect: unregistered-parameter at logit_scale.py:22 in logit_scale since step 0
# twin: healthy/contrastive/info_nce.py
"""Images and captions: the learned temperature is a tensor, set as an attribute after the model was made."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.ModuleDict({"image": nn.Linear(20, 12), "text": nn.EmbeddingBag(40, 12)})
model.logit_scale = torch.tensor(2.6, requires_grad=True)
optimizer = optim.Adam(model.parameters(), lr=1e-3)
pairs = torch.randint(40, (200, 4))
look = torch.randn(40, 20)
for step in range(20):
    captions = pairs[torch.randperm(200)[:32]]
    pictures = look[captions].mean(1) + 0.1 * torch.randn(32, 20)
    a = F.normalize(model["image"](pictures), dim=1)
    b = F.normalize(model["text"](captions), dim=1)
    logits = model.logit_scale.exp() * a @ b.T
    labels = torch.arange(32)
    loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
