"""Trains real models watched and unwatched, compares, and writes docs/models.md.

`python -m benchmarks.models` takes a few minutes and exits with 1 when any model has a problem;
`--only TEXT` tries those whose name holds the text, and writes nothing.
"""

import gc
import platform
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch

import gradscope
from benchmarks.architectures import LIBRARIES, architectures
from benchmarks.trial import STEPS, TIMED, Result, Rows, attempt

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
HEAD = """\
<!-- Written by `make models`: do not edit. -->

# Real models

{summary}

Each model comes from its own library, in a small configuration and with random weights. It is trained for {steps}
steps bare and {steps} steps watched with `every=1`, in one process and from one seed.

* **captured**: modules whose activations, and whose gradients, are recorded. The truth they are held against comes from
  plain hooks in a run of its own: which modules ran, which gradients came back, how many elements they have and their
  norm. A gradient that is recorded and did not come back counts against it too.
* **bit-identical**: loss, gradients, parameters, buffers and the state of the random number generators of torch, numpy
  and Python are the same, bit for bit.
* **findings**: errors and warnings. These models are healthy, so there should be none.
* **overhead**: how long a watched step takes compared with a bare one, median of {timed}, one thread. In networks as
  small as these the hooks weigh most, and `every=1` measures each step; by default far fewer steps are measured.

| model | library | modules | captured | bit-identical | findings | overhead |
|---|---|--:|---|---|---|--:|
"""


def sweep(only: str = "") -> list[Result]:
    """Try every architecture whose name holds this text, one at a time."""
    results = []
    for architecture in architectures():
        if only in architecture.name:
            result = attempt(architecture)
            results.append(result)
            gc.collect()
            print(f"{result.library:12} {result.name:48} {'; '.join(result.problems) or 'ok'}", flush=True)
    return results


def page(results: Sequence[Result]) -> str:
    """The document."""
    head = HEAD.format(summary=summary(results), steps=STEPS, timed=TIMED)
    return head + "".join(f"{row(result)}\n" for result in results)


def summary(results: Sequence[Result]) -> str:
    """The totals, and which versions they are of."""
    judged = [result for result in results if result.deterministic]
    same = sum(not result.differences and not result.error for result in judged)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", *LIBRARIES))
    return (
        f"**{len(results)} models, {sum(result.modules for result in results)} modules: "
        f"{same} of {len(judged)} bit-identical; "
        f"activations of {_total(result.activations for result in results)} modules and "
        f"gradients of {_total(result.gradients for result in results)} captured; "
        f"{sum(len(result.alarms) for result in results)} alarms; "
        f"overhead {median(result.overhead for result in results):.2f} in the median.** "
        f"gradscope {gradscope.__version__}, {versions}, Python {platform.python_version()}."
    )


def row(result: Result) -> str:
    """One line of the table."""
    findings = ", ".join(finding.analyzer for finding in result.alarms) or "none"
    same = "yes" if not result.differences else "no" if result.deterministic else "differs bare from bare"
    captured = f"{result.activations} / {result.gradients}"
    cells = (result.modules, captured, same, findings, f"{result.overhead:.2f}")
    shown = [result.error] + [""] * (len(cells) - 1) if result.error else map(str, cells)
    return f"| {' | '.join((result.name, result.library, *shown))} |"


def _total(rows: Iterable[Rows]) -> Rows:
    parts = list(rows)
    return Rows(sum(part.wanted for part in parts), tuple(name for part in parts for name in part.missing))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep, write the page, and return 1 when any model has a problem."""
    parser = ArgumentParser(description="Train real models watched and unwatched, and compare.")
    parser.add_argument("--only", default="", metavar="TEXT", help="try those whose name holds TEXT; write nothing")
    only = parser.parse_args(arguments).only
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # these libraries' warnings are their own affair
    results = sweep(only)
    if not only:
        PAGE.write_text(page(results), encoding="utf-8")
        print(summary(results))
    return int(any(result.problems for result in results))


if __name__ == "__main__":
    sys.exit(main())
