"""How long a tensor's statistics take, next to one `sum` of it: `python -m benchmarks.kernel`. One thread."""

from collections.abc import Callable
from time import perf_counter

import torch

from gradscope.hooks.meters.eager import EagerMeter
from gradscope.hooks.meters.host import HostMeter

SIZES = (1_000, 65_536, 1_000_000, 10_000_000)
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
ELEMENTS = 10_000_000
ROUNDS = 7


def main() -> None:
    """Print one table, in microseconds."""
    torch.set_num_threads(1)
    print("| dtype | elements | one sum, us | kernel, us | torch's operations, us |")
    print("|---|---|---|---|---|")
    for dtype in DTYPES:
        for size in SIZES:
            print(f"| {str(dtype).removeprefix('torch.')} | {size:,} | {' | '.join(_row(size, dtype))} |", flush=True)


def _row(size: int, dtype: torch.dtype) -> list[str]:
    tensor = torch.randn(size).to(dtype)
    cell = torch.empty((), dtype=dtype)
    cells = torch.float64 if dtype is torch.float64 else torch.float32
    host, eager = HostMeter(), EagerMeter(torch.device("cpu"), cells)
    repeats = max(3, ELEMENTS // size)
    ways: tuple[Callable[[], object], ...] = (
        lambda: torch.sum(tensor, 0, out=cell),
        lambda: host.rows.measure(tensor),
        lambda: eager.measure(tensor),
    )
    return [f"{_microseconds(way, min(repeats, 2_000)):.2f}" for way in ways]


def _microseconds(way: Callable[[], object], repeats: int) -> float:
    """Of one call: the best of several rounds, since whatever else the machine does only ever adds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = perf_counter()
        for _ in range(repeats):
            way()
        best = min(best, (perf_counter() - start) / repeats)
    return 1e6 * best


if __name__ == "__main__":
    main()
