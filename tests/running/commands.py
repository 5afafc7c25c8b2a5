"""Runs programs under `gradscope run`, in a process of their own or in this one."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]
Result = subprocess.CompletedProcess[str]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | more


def python(*arguments: str | Path, cwd: Path, more: Mapping[str, str] | None = None) -> Result:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env=environment(**(more or {})), timeout=300
    )


def gradscope_run(*arguments: str | Path, cwd: Path, more: Mapping[str, str] | None = None) -> Result:
    return python("-m", "gradscope", "run", *arguments, cwd=cwd, more=more)


@contextmanager
def own_main() -> Iterator[None]:
    """What a program changes of the process is put back."""
    main, argv, path = sys.modules["__main__"], sys.argv, list(sys.path)
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv, sys.path[:] = main, argv, path
