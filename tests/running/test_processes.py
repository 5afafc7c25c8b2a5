"""Processes that a program starts: spawned, forked, by torchrun. Each is watched, and told once."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from running.commands import environment, gradscope_run

TRAIN = """
import sys
import torch
import torch.multiprocessing as mp
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        return self.a(x)

def train(rank, zero):
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for _ in range(6):
        if zero:
            optimizer.zero_grad()
        net(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    if rank == 7:
        net(torch.zeros(2, 2))
"""

SPAWN = (
    TRAIN
    + """
if __name__ == "__main__":
    method, *more = sys.argv[1:]
    if "first" in more:
        train(0, True)
    mp.start_processes(train, args=(False,), nprocs=2, start_method=method)
"""
)

CRASH = (
    TRAIN
    + """
if __name__ == "__main__":
    process = mp.get_context("spawn").Process(target=train, args=(7, True))
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""
)

LOADER = """
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

class Data(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, i):
        assert "gradscope.watching" not in sys.modules or sys.argv[1] == "fork"
        x = torch.randn(4, generator=torch.Generator().manual_seed(i))
        return x, x.sum(0, keepdim=True)

if __name__ == "__main__":
    net = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for x, y in DataLoader(Data(), batch_size=8, num_workers=2, multiprocessing_context=sys.argv[1]):
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()
    print("ok")
"""

RANKS = """
import os
import torch
import torch.distributed as dist
from torch import nn

dist.init_process_group("gloo")
torch.manual_seed(0)
net = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for _ in range(6):
    if os.environ["SICK"] not in ("all", os.environ["RANK"]):
        optimizer.zero_grad()
    net(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
dist.destroy_process_group()
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the program has its temporary files: a short path, as sockets need one."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


def leftovers(temporary: Path) -> list[Path]:
    return list(temporary.glob("gradscope-*"))


def more(temporary: Path) -> dict[str, str]:
    return {"TMPDIR": str(temporary)}


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_spawned_workers_are_watched_and_their_cause_told_once(method: str, tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "spawn.py").write_text(SPAWN)
    options = ["--json", "report.json", "--logdir", "logs", "--fail-on", "error"]
    result = gradscope_run(*options, "spawn.py", method, cwd=tmp_path, more=more(temporary))
    assert result.returncode == 3, result.stderr
    assert result.stderr.count("unzeroed-gradient") == 1
    assert "optimizer.step()" in result.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["models"]) == 2
    assert len(report["findings"][0]["models"]) == 2
    assert [model["steps"] for model in report["models"].values()] == [6, 6]
    assert len(list((tmp_path / "logs").glob("process-*/Net/gradscope/events*"))) == 2
    assert leftovers(temporary) == []


def test_forked_workers_do_not_count_what_their_parent_trained(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "spawn.py").write_text(SPAWN)
    result = gradscope_run("spawn.py", "fork", "first", cwd=tmp_path, more=more(temporary))
    assert result.returncode == 0, result.stderr
    verdicts = [line for line in result.stderr.splitlines() if line.startswith("gradscope: ")]
    assert len(verdicts) == 3
    assert verdicts[0].startswith("gradscope: Net: no findings in 6 steps")
    assert all("1 error in 6 steps" in line for line in verdicts[1:])
    assert leftovers(temporary) == []


def test_a_worker_that_crashes_says_why(tmp_path: Path) -> None:
    (tmp_path / "crash.py").write_text(CRASH)
    result = gradscope_run("crash.py", cwd=tmp_path)
    assert result.returncode == 1
    assert "ERROR    shape-mismatch" in result.stderr
    assert "1 error in 6 steps" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_workers_of_a_loader_load_and_are_not_told_of(method: str, tmp_path: Path) -> None:
    (tmp_path / "loader.py").write_text(LOADER)
    result = gradscope_run("loader.py", method, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "ok\n"), result.stderr
    assert result.stderr.startswith("gradscope: no findings in 8 steps")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(("sick", "told"), [("none", 0), ("all", 1), ("1", 1)])
def test_under_torchrun_rank_0_tells_and_others_what_it_has_not(
    sick: str, told: int, tmp_path: Path, temporary: Path
) -> None:
    (tmp_path / "ranks.py").write_text(RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    result = subprocess.run(
        [*command, "-m", "gradscope", "run", "--json", "report.json", "ranks.py"],
        cwd=tmp_path,
        env=environment(SICK=sick, **more(temporary)),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("ERROR    unzeroed-gradient") == told
    assert ("gradscope: rank 1 has found what rank 0 has not:" in result.stderr) == (sick == "1")
    assert len(json.loads((tmp_path / "report.json").read_text())["findings"]) == (sick == "all")
    assert (tmp_path / "report.rank1.json").exists() == (sick == "1")
    assert leftovers(temporary) == []
