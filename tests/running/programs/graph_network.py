"""A graph convolutional network: one graph, all nodes in each step, labels for some of them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

torch.manual_seed(42)


class GraphConv(nn.Module):
    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.Tensor(input_dim, output_dim))
        nn.init.xavier_normal_(self.kernel)
        self.bias = nn.Parameter(torch.zeros(output_dim))

    def forward(self, input_tensor: Tensor, adj_mat: Tensor) -> Tensor:
        support = torch.mm(input_tensor, self.kernel)
        return torch.spmm(adj_mat, support) + self.bias


class GCN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gc1 = GraphConv(20, 16)
        self.gc2 = GraphConv(16, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, input_tensor: Tensor, adj_mat: Tensor) -> Tensor:
        x = F.relu(self.gc1(input_tensor, adj_mat))
        return F.log_softmax(self.gc2(self.dropout(x), adj_mat), dim=1)


labels = torch.randint(4, (80,))
same = (labels[:, None] == labels[None, :]).float()
edges = ((torch.rand(80, 80) < 0.15 * same + 0.01).float() + torch.eye(80)).clamp(max=1)
edges = ((edges + edges.t()) > 0).float()
degree = edges.sum(1).rsqrt()
adj_mat = (degree[:, None] * edges * degree[None, :]).to_sparse()
features = F.one_hot(labels, 4).float().repeat(1, 5) + torch.randn(80, 20)
train_nodes, test_nodes = torch.arange(40), torch.arange(40, 80)

gcn = GCN()
optimizer = Adam(gcn.parameters(), lr=0.02, weight_decay=5e-4)
criterion = nn.NLLLoss()
for epoch in range(40):
    gcn.train()
    optimizer.zero_grad()
    output = gcn(features, adj_mat)
    loss = criterion(output[train_nodes], labels[train_nodes])
    loss.backward()
    optimizer.step()
    if epoch % 10 == 0:
        gcn.eval()
        with torch.no_grad():
            accuracy = (gcn(features, adj_mat)[test_nodes].argmax(1) == labels[test_nodes]).float().mean()
        print(f"Epoch: {epoch:04d} loss_train: {loss.item():.4f} accuracy: {accuracy.item():.4f}")
