# expect: cleared-gradient since step 0
# twin: healthy/loops/accumulation.py
"""Gradient accumulation whose zero_grad() runs before each micro-batch: three of four count for nothing."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", 0)))
data = torch.randn(512, 20)
labels = (data[:, :3].sum(1) > 0).long()
loader = DataLoader(TensorDataset(data, labels), batch_size=16, shuffle=True)

model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
criterion = nn.CrossEntropyLoss()
accumulation_steps = 4

for epoch in range(4):
    for i, (inputs, targets) in enumerate(loader):
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, targets) / accumulation_steps
        loss.backward()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
    print(f"epoch {epoch} loss {loss.item():.3f}")
