"""Writes a run for TensorBoard while it goes on: a few grouped scalars and one table of findings.

However many sites a model has, the tags are the same: for each of `GROUPS` the median, the 10th and 90th
percentile over the sites, and the worst site, which is the one furthest from the median in orders of
magnitude. They lie in a run of their own below the log directory, because TensorBoard stops reading a file
of events when a second writer starts one beside it, and shows one custom layout per run only.
"""

import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.custom_scalar import metadata as custom_scalar
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MarginChartContent
from tensorboard.plugins.text import metadata as text_plugin
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from gradscope.findings import Finding
from gradscope.records import Floats, Kind, Recording, Statistic, Step, StepEnd

RUN = "gradscope"
FINDINGS = "findings"
QUANTILES = {"median": 0.5, "p10": 0.1, "p90": 0.9}
WORST = "worst"
RMS_OF = (Kind.ACTIVATION, Kind.ACTIVATION_GRADIENT, Kind.PARAMETER, Kind.PARAMETER_GRADIENT)
RATIO = "update/ratio"
GROUPS = (*(f"{kind}/rms" for kind in RMS_OF), RATIO)
QUEUE = 1000
FLUSH_SECONDS = 5
CELL_WIDTH = 26
_ESCAPES = str.maketrans({**{c: f"\\{c}" for c in "\\`*_[]|"}, "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": " "})


@dataclass(frozen=True, eq=False)
class _Group:
    """One statistic, with an axis of steps and one of sites."""

    name: str
    sites: tuple[str, ...]
    values: Floats
    measured: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Digest:
    """What is written of a group: one number per step and tag. `culprits` index the worst sites."""

    group: _Group
    numbers: dict[str, Floats]
    culprits: NDArray[np.intp]
    measured: NDArray[np.bool_]


class TensorBoardWriter:
    """Writes what is new in a recording to `<logdir>/gradscope`, whenever it is asked to.

    Each finished observed step is written once, in order. The table of findings is cumulative, so that
    TensorBoard, which keeps only a sample of the texts, always has the whole of it in the last one.
    """

    def __init__(self, logdir: str | PathLike[str]) -> None:
        self._writer = EventFileWriter(str(Path(logdir) / RUN), QUEUE, FLUSH_SECONDS)
        self._last_step = -1
        self._last_text_step = -1
        self._shown: tuple[tuple[Finding, ...], bool] | None = None
        self._add(0, [_layout()])

    def write(self, recording: Recording, findings: tuple[Finding, ...]) -> None:
        """Write the scalars of the steps that are new, and the findings if they changed or the run is over."""
        finished = [step for step in recording.observed if step.end is not StepEnd.OPEN or recording.complete]
        self._write_scalars(recording, [step for step in finished if step.index > self._last_step])
        if self._shown != (findings, recording.complete):
            self._shown = findings, recording.complete
            self._write_findings(replace(recording, steps=tuple(finished[-1:])), findings)

    def close(self) -> None:
        """Write out what is pending and close the file."""
        self._writer.close()

    def _write_scalars(self, recording: Recording, steps: Sequence[Step]) -> None:
        if not steps:
            return
        digests = [_digest(group) for group in _groups(replace(recording, steps=tuple(steps)))]
        for row, step in enumerate(steps):
            self._add(step.index, (value for digest in digests for value in _scalars(digest, row)))
        self._last_step = steps[-1].index

    def _write_findings(self, latest: Recording, findings: tuple[Finding, ...]) -> None:
        """TensorBoard keeps one text per step, so a second one in the same step counts as the next."""
        markdown = "\n\n".join([_findings_table(findings), *_worst_table(latest)])
        self._last_text_step = max(self._last_step, self._last_text_step + 1)
        self._add(
            self._last_text_step, [_text(FINDINGS, markdown, text_plugin.create_summary_metadata("Findings", ""))]
        )

    def _add(self, step: int, values: Iterable[Summary.Value]) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))


def _groups(recording: Recording) -> Iterator[_Group]:
    """The main statistics, each of shape (observed steps, sites)."""
    for kind in RMS_OF:
        paths = tuple(site.path for site in recording.sites_of(kind))
        measured = recording.values(kind, Statistic.COUNT) > 0
        yield _Group(f"{kind}/rms", paths, recording.values(kind, Statistic.RMS), measured)
    yield _ratios(recording)


def _ratios(recording: Recording) -> _Group:
    """Update rms over parameter rms, left out where the parameter is zero: it has no size to compare with."""
    columns = {site.path: column for column, site in enumerate(recording.sites_of(Kind.PARAMETER))}
    pairs = [(i, columns[s.path]) for i, s in enumerate(recording.sites_of(Kind.UPDATE)) if s.path in columns]
    above, below = [update for update, _ in pairs], [parameter for _, parameter in pairs]
    update = recording.values(Kind.UPDATE, Statistic.RMS)[:, above]
    parameter = recording.values(Kind.PARAMETER, Statistic.RMS)[:, below]
    updated = recording.values(Kind.UPDATE, Statistic.COUNT)[:, above] > 0
    sized = (recording.values(Kind.PARAMETER, Statistic.COUNT)[:, below] > 0) & (parameter != 0)
    paths = tuple(recording.sites_of(Kind.UPDATE)[column].path for column in above)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _Group(RATIO, paths, update / parameter, updated & sized)


def _digest(group: _Group) -> _Digest:
    finite = group.measured & np.isfinite(group.values)
    quantiles = _quantiles(np.where(finite, group.values, np.nan))
    culprits = _culprits(group, quantiles[0])
    worst = _at(group.values, culprits)
    numbers = dict(zip(QUANTILES, quantiles, strict=True)) | {WORST: np.where(np.isfinite(worst), worst, np.nan)}
    return _Digest(group, numbers, culprits, np.asarray(group.measured.any(axis=1)))


def _quantiles(values: Floats) -> Floats:
    """Quantiles over the sites that are not NaN, of shape (quantiles, steps); NaN for a step without any."""
    result = np.full((len(QUANTILES), len(values)), np.nan)
    known = ~np.isnan(values).all(axis=1)
    if known.any():
        result[:, known] = np.nanquantile(values[known], list(QUANTILES.values()), axis=1)
    return result


def _culprits(group: _Group, median: Floats) -> NDArray[np.intp]:
    """In each step the site that is not finite, else the one that is zero, else the one furthest from the median."""
    if not group.sites:
        return np.zeros(len(group.values), np.intp)
    smallest = np.finfo(float).tiny
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.abs(np.log10(group.values) - np.log10(np.maximum(median, smallest))[:, None])
    ranked = np.where(np.isfinite(group.values), distance, np.nan)  # to argmax nothing is greater than NaN
    culprits: NDArray[np.intp] = np.where(group.measured, ranked, -1.0).argmax(axis=1)
    return culprits


def _at(values: Floats, columns: NDArray[np.intp]) -> Floats:
    """The value at one column of each row; NaN when there are no columns."""
    return values[np.arange(len(values)), columns] if values.shape[1] else np.full(len(values), np.nan)


def _scalars(digest: _Digest, row: int) -> Iterator[Summary.Value]:
    if digest.measured[row]:
        for name, numbers in digest.numbers.items():
            yield Summary.Value(tag=f"{digest.group.name}/{name}", simple_value=numbers[row])


def _layout() -> Summary.Value:
    """Charts for the custom scalars tab: the median in its band of p10 to p90."""
    charts = [Chart(title=group, margin=MarginChartContent(series=[_band(group)])) for group in GROUPS]
    layout = Layout(category=[Category(title="gradscope", chart=charts)])
    return _text(custom_scalar.CONFIG_SUMMARY_TAG, layout.SerializeToString(), custom_scalar.create_summary_metadata())


def _band(group: str) -> MarginChartContent.Series:
    return MarginChartContent.Series(value=f"{group}/median", lower=f"{group}/p10", upper=f"{group}/p90")


def _text(tag: str, content: str | bytes, metadata: SummaryMetadata) -> Summary.Value:
    raw = content.encode("utf-8", "replace") if isinstance(content, str) else content
    tensor = TensorProto(dtype=DT_STRING, tensor_shape=TensorShapeProto(), string_val=[raw])
    return Summary.Value(tag=tag, tensor=tensor, metadata=metadata)


def _findings_table(findings: tuple[Finding, ...]) -> str:
    if not findings:
        return "No findings."
    rows = [(f.severity, f.analyzer, str(f.step), f.where, str(f.location or ""), f.message, f.fix) for f in findings]
    return _table(("severity", "analyzer", "since step", "where", "line", "message", "fix"), rows)


def _worst_table(latest: Recording) -> Iterator[str]:
    """A heading and a table of the worst sites, if anything was measured in the latest step."""
    digests = [_digest(group) for group in _groups(latest)]
    rows = [_worst_row(digest) for digest in digests if digest.measured.any()]
    if rows:
        yield f"Worst site of each statistic in step {latest.steps[-1].index}, the furthest from the median:"
        yield _table(("statistic", "site", "value", "median"), rows)


def _worst_row(digest: _Digest) -> tuple[str, ...]:
    worst, median = (digest.numbers[name][-1] for name in (WORST, "median"))
    return digest.group.name, digest.group.sites[digest.culprits[-1]], _number(worst), _number(median)


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "not finite"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, of plain text."""
    lines = [head, ["---"] * len(head), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(content: str) -> str:
    """Text of the user's program, meaning nothing in Markdown or HTML.

    Its lines are short, because TensorBoard breaks words in the narrow columns beside a wide one.
    """
    return "<br>".join(line.translate(_ESCAPES) for line in textwrap.wrap(content, CELL_WIDTH))
