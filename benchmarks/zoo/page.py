"""docs/zoo.md: what the zoo holds, what was found in it, and what was not."""

import platform
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version

import gradscope
from benchmarks.zoo.expectations import Program
from benchmarks.zoo.reasons import REASONS
from benchmarks.zoo.results import Results, share
from benchmarks.zoo.verdicts import Verdict

HEAD = """\
<!-- Written by `make zoo`: do not edit. -->

# The zoo

{summary}

`zoo/` holds training scripts as people write them, with a fault, with two, or with none. The first line of each says
what is expected of it (`zoo/README.md` has the grammar). `make zoo` runs each {seeds} times, each time with another
seed, through the same door as `gradscope run` and with its defaults.

* **detected**: an error or a warning was told, or the finding that is expected.
* **right analyzer first**: of all findings, the first one has the name of the fault.
* **right site, right line, right step**: where the program says what they are. A step is right if it is the one in
  which the fault happens, or the next one; of a fault that builds up, if it is told in time.
* **other alarms**: sick programs with an error or a warning beyond what is expected.

These programs were written together with the analyzers, so what stands here shows what works and not how often it
will work elsewhere. That was tried once, on 2026-11-26, with programs by authors who had not read the analyzers, one
seed, before anything was changed for them: of 80 sick programs over all faults, 67 were detected, 66 with the right
analyzer first, and 1 had another alarm; of 156 healthy ones, 1 had an alarm (a tanh layer on raw inputs, which does
learn better when they are scaled). What they showed was then repaired where a signal was found, and joined the zoo.
Most of what is still missed leaves no trace in what is recorded: weights edited through `.data` long after the first
step, programs without an optimizer of `torch.optim`, two losses whose gradients are added up where one alone was
meant, units that die between observed steps.

## Per analyzer

| | programs | detected | right analyzer first | right site | right line | right step | other alarms |
|---|--:|--:|--:|--:|--:|--:|--:|
"""

BESIDE = """
## Beside it, what has been published

None of these numbers is of the same programs, so they are no ranking. Most come from the authors' own result files.

| | detected | more exactly | false alarms |
|---|---|---|---|
| TrainCheck (OSDI 2025) | 18 of 20 | 10 exact, 8 near the cause | under 2 % of 63 programs, after 5 or 6 sound runs |
| DeepDiagnosis (ICSE 2022) | 46 of 52 | right layer 34 of 52 | 36 % of healthy models (68 of 188) |
| DeepLocalize (ICSE 2021) | 34 of 40 | 21 of 40 | 71 % of healthy models (133 of 186) |
| rule sets as published, with their defaults | 9 to 25 of 26 small programs | - | 6 to 23 of 27 healthy programs |
{ours}

- Jiang et al., "Training with Confidence: Catching Silent Errors in Deep Learning Training with Automated Proactive
  Checks", OSDI 2025; its documentation and artifact guide.
- Wardat et al., "DeepDiagnosis: Automatically Diagnosing Faults and Recommending Actionable Fixes in Deep Learning
  Programs", ICSE 2022; its results table. The false alarms were counted in its published logs, on the models that
  AutoTrainer (ICSE 2021) calls normal.
- Wardat, Le and Rajan, "DeepLocalize: Fault Localization for Deep Neural Networks", ICSE 2021; false alarms as above.
- The rule sets are those of SageMaker Debugger, AutoTrainer, DeepDiagnosis and TheDeepChecker, written anew from their
  published thresholds and run on 27 healthy and 26 sick small programs.
"""


def page(results: Results) -> str:
    """The document."""
    rows = "".join(f"{row}\n" for row in _rows(results))
    every = results.verdicts
    ours = (
        "this zoo",
        share(verdict.detected for verdict in every),
        ", ".join(
            (
                f"right analyzer first {share(verdict.first for verdict in every)}",
                f"right site {share(verdict.site for verdict in every)}",
                f"right line {share(verdict.line for verdict in every)}",
            )
        ),
        f"{len(results.alarmed(healthy=True))} of {len(results.healthy)} healthy programs",
    )
    parts = (
        HEAD.format(summary=f"**{summary(results)}** {_versions()}", seeds=results.seeds) + rows,
        _misses(results),
        _alarms(results),
        BESIDE.format(ours=f"| {' | '.join(f'**{cell}**' for cell in ours)} |"),
        _unjudged(results.unjudged),
        _list("Healthy programs", results.healthy),
        _list("Sick programs", results.sick),
    )
    return "".join(part for part in parts if part)


def summary(results: Results) -> str:
    """The totals in one sentence."""
    every = results.verdicts
    return (
        f"{len(results.sick)} sick and {len(results.healthy)} healthy programs, {results.seeds} seeds: "
        f"detected {share(v.detected for v in every)}, right analyzer first {share(v.first for v in every)}, "
        f"right site {share(v.site for v in every)}, right line {share(v.line for v in every)}, "
        f"right step {share(v.step for v in every)}; "
        f"alarms on {len(results.alarmed(healthy=True))} of {len(results.healthy)} healthy programs"
        + (f"; {len(results.unjudged)} programs wait for their analyzer" if results.unjudged else "")
        + f"; {results.seconds:.0f} s."
    )


def _versions() -> str:
    return f"gradscope {gradscope.__version__}, torch {version('torch')}, Python {platform.python_version()}."


def _rows(results: Results) -> Iterator[str]:
    names = sorted({verdict.expectation.analyzer for verdict in results.verdicts})
    for name in names:
        yield _row(f"[{name}](analyzers/{name}.md)", results, results.of(name))
    yield _row("**all**", results, results.verdicts)


def _row(name: str, results: Results, verdicts: Sequence[Verdict]) -> str:
    programs = {verdict.program.name for verdict in verdicts}
    others = programs & results.alarmed(healthy=False)
    cells = (
        len(programs),
        share(verdict.detected for verdict in verdicts),
        share(verdict.first for verdict in verdicts),
        share(verdict.site for verdict in verdicts),
        share(verdict.line for verdict in verdicts),
        share(verdict.step for verdict in verdicts),
        len(others),
    )
    return f"| {' | '.join((name, *map(str, cells)))} |"


def _misses(results: Results) -> str:
    """What is not as expected on sick programs, each once, with the seeds and the reason."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for verdict in results.verdicts:
        if verdict.wrong:
            key = verdict.program.name, f"{verdict.expectation.analyzer}: {verdict.wrong}"
            seeds.setdefault(key, []).append(verdict.seed)
    lines = [_told(name, text, among, results.seeds) for (name, text), among in seeds.items()]
    return _section("Misses", lines or ["None."])


def _alarms(results: Results) -> str:
    seeds: dict[tuple[str, str], list[int]] = {}
    for alarms in results.alarms:
        told = [f"{f.severity} {f.analyzer}: {f.message}" for f in alarms.findings]
        for text in (*told, *([f"it ended with {alarms.error}"] if alarms.error else [])):
            seeds.setdefault((alarms.program.name, text), []).append(alarms.seed)
    lines = [_told(name, text, among, results.seeds) for (name, text), among in seeds.items()]
    return _section("Alarms that nobody expected", lines or ["None."])


def _told(name: str, text: str, seeds: Sequence[int], of: int) -> str:
    times = "" if len(seeds) == of else f" (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})"
    reason = REASONS.get(name)
    return f"* `{name}`{times}: {text}" + (f"  \n  Why: {reason}" if reason else "")


def _unjudged(programs: Iterable[Program]) -> str:
    lines = [f"* `{program.name}`: {', '.join(e.analyzer for e in program.expected)}" for program in programs]
    return _section("Not yet judged: there is no analyzer of that name", lines) if lines else ""


def _list(title: str, programs: Iterable[Program]) -> str:
    """The programs by folder, each with what its docstring says."""
    folders: dict[str, list[Program]] = {}
    for program in programs:
        folders.setdefault(program.file.parent.name, []).append(program)
    lines = [
        f"* **{folder}**: " + "; ".join(f"{program.file.stem} ({_short(program)})" for program in among)
        for folder, among in folders.items()
    ]
    return _section(title, lines) if lines else ""


def _short(program: Program) -> str:
    line = next(line for line in program.file.read_text("utf-8").splitlines() if line.startswith('"""'))
    return line.strip('"').rstrip(".").replace("[", "\\[")  # else Markdown takes it for a link


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join(("", f"## {title}", "", *lines, ""))
