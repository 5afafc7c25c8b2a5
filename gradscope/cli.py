"""The command `gradscope`. Each command imports what it needs when it runs; only `run` comes near torch.

`run` imports neither numpy nor anything else that reads its settings from the environment before the program has
had its turn.
"""

import sys
from argparse import REMAINDER, ArgumentParser, Namespace
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from gradscope.errors import GradscopeError

FAIL_ON = ("error", "warning", "never")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 2 when it was asked for something impossible."""
    try:
        options = parser().parse_args(arguments)
        status: int = options.command(options)
    except GradscopeError as error:
        print(f"gradscope: {error}", file=sys.stderr)
        return 2
    return status


def _write(file: str, text: str) -> int:
    from pathlib import Path

    try:
        Path(file).write_text(text, "utf-8")
    except OSError as error:
        print(f"gradscope: {file} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    return 0


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, and status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> ArgumentParser:
    """The arguments of all commands."""
    made = _Parser("gradscope", description="The debugger for gradients in PyTorch.", allow_abbrev=False)
    made.add_argument("--version", action="version", version=f"gradscope {version('torch-gradscope')}")
    commands = made.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    _add_run(commands.add_parser("run", help="run a program and watch what it trains", allow_abbrev=False))
    report = commands.add_parser("report", help="what was found in a run that was written to a log directory")
    report.add_argument("logdir", metavar="LOGDIR")
    report.add_argument("--html", metavar="FILE", help="write it as a page of HTML")
    report.set_defaults(command=_report)
    commands.add_parser("analyzers", help="list what gradscope can find").set_defaults(command=_analyzers)
    explain = commands.add_parser("explain", help="what a finding means and what to do about it")
    explain.add_argument("name", metavar="NAME", help="of an analyzer, as in vanishing-gradient")
    explain.set_defaults(command=_explain)
    dashboard = commands.add_parser("dashboard", help="show a log directory in TensorBoard")
    dashboard.add_argument("logdir", metavar="LOGDIR")
    dashboard.set_defaults(command=_dashboard)
    completion = commands.add_parser("completion", help="print what makes a shell complete these commands")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    completion.set_defaults(command=_completion)
    return made


def _add_run(run: ArgumentParser) -> None:
    run.usage = "gradscope run [options] [-m] SCRIPT [ARGS...]"
    run.add_argument("--json", metavar="FILE", help="write the report as JSON")
    run.add_argument("--html", metavar="FILE", help="write the report as a page of HTML")
    run.add_argument("--logdir", metavar="DIR", help="write TensorBoard data, a folder for each model")
    run.add_argument(
        "--fail-on",
        choices=FAIL_ON,
        default="never",
        help="exit with status 3 when there is a finding this severe and the program has succeeded",
    )
    run.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME[:SITES]",
        help="an analyzer that shall not run, or whose findings at these sites do not count",
    )
    run.add_argument("--select", action="append", metavar="NAME", help="an analyzer that shall run, and no others")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME.THRESHOLD=VALUE",
        help="another threshold for an analyzer, as in vanishing-gradient.fall=1e6",
    )
    run.add_argument("--every", type=_steps, metavar="N", help="take statistics on every N-th step")
    run.add_argument("-m", dest="is_module", action="store_true", help="SCRIPT is the name of a module")
    run.add_argument("script", metavar="SCRIPT", help="a script, or with -m a module")
    run.add_argument("arguments", nargs=REMAINDER, metavar="ARGS", help="are the program's own")
    run.set_defaults(command=_run)


def _steps(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_steps.__name__ = "number of steps, 1 or more,"  # how argparse calls it


def _run(options: Namespace) -> int:
    from pathlib import Path

    from gradscope.running.names import check
    from gradscope.running.options import Options
    from gradscope.running.programs import Program
    from gradscope.running.session import Wishes, run
    from gradscope.settings import Settings, assigned, project

    ignore, select = _names(options.ignore), _names(options.select or ())
    settings = project(Path.cwd()), Settings("", ignore, select or None, assigned(options.set))
    for source in settings:
        check(source)
    return run(
        Program(options.script, tuple(options.arguments), options.is_module),
        Options(every=options.every, settings=settings, logdir=options.logdir),
        Wishes(json=options.json, html=options.html, fail_on=options.fail_on),
    )


def _names(given: Sequence[str]) -> tuple[str, ...]:
    """Each option may be given several times, and name several at once."""
    return tuple(name.strip() for text in given for name in text.split(",") if name.strip())


def _report(options: Namespace) -> int:
    from gradscope.reports import html
    from gradscope.reports.stored import stored
    from gradscope.reports.terminal import show

    summary = stored(options.logdir)
    if options.html is not None:
        return _write(options.html, html.page(summary, f"gradscope: {options.logdir}"))
    show(summary)
    return 0


def _analyzers(_: Namespace) -> int:
    from gradscope.catalogue import failures, known
    from gradscope.reports.page import summary

    width = max(map(len, known()), default=0)
    for name, cls in known().items():
        print(f"{name:<{width}}  {cls.severity:<7}  {summary(cls)}")
    for failure in failures():
        print(f"gradscope: {failure}", file=sys.stderr)
    return 0


def _explain(options: Namespace) -> int:
    from gradscope.catalogue import find
    from gradscope.reports.page import page

    print(page(find(options.name)).rstrip())
    return 0


def _dashboard(options: Namespace) -> int:
    from gradscope.dashboard import serve

    serve(options.logdir)
    return 0


def _completion(options: Namespace) -> int:
    import shtab

    print(shtab.complete(parser(), options.shell))
    return 0
