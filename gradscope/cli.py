"""The command line: `gradscope analyzers` and `gradscope explain NAME`. Needs no torch."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib.metadata import version

from gradscope.catalogue import find, known
from gradscope.errors import GradscopeError
from gradscope.reports.page import page, summary


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, or 2 when it was asked for something impossible."""
    options = _parser().parse_args(arguments)
    try:
        print(options.command(options))
    except GradscopeError as error:
        print(f"gradscope: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser("gradscope", description="The debugger for gradients in PyTorch.")
    parser.add_argument("--version", action="version", version=f"gradscope {version('torch-gradscope')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    analyzers = commands.add_parser("analyzers", help="list what gradscope can find")
    analyzers.set_defaults(command=_analyzers)
    explain = commands.add_parser("explain", help="what a finding means and what to do about it")
    explain.add_argument("name", metavar="NAME", help="of an analyzer, as in vanishing-gradient")
    explain.set_defaults(command=_explain)
    return parser


def _analyzers(_: Namespace) -> str:
    width = max(map(len, known()), default=0)
    return "\n".join(f"{name:<{width}}  {cls.severity:<7}  {summary(cls)}" for name, cls in known().items())


def _explain(options: Namespace) -> str:
    return page(find(options.name)).rstrip()
