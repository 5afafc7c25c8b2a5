"""Writes a run for TensorBoard while it goes on: a few grouped scalars and one table of findings.

The scalars are those of `gradscope.digest`. They lie in a run of their own below the log directory, because
TensorBoard stops reading a file of events when a second writer starts one beside it, and shows one custom layout
per run only.
"""

import json
import math
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.custom_scalar import metadata as custom_scalar
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MarginChartContent
from tensorboard.plugins.text import metadata as text_plugin
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from gradscope.digest import GROUPS, WORST, Digest, Progress, digests, finished
from gradscope.exchange import to_dict
from gradscope.findings import Finding, Report
from gradscope.records import Recording, Step

RUN = "gradscope"
FINDINGS = "findings"
REPORT = "report"  # for `gradscope report`; TensorBoard shows nothing of it
QUEUE = 1000
FLUSH_SECONDS = 5
CELL_WIDTH = 26
_UNSEEN = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="gradscope"))
_ESCAPES = str.maketrans({**{c: f"\\{c}" for c in "\\`*_[]|"}, "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": " "})


class TensorBoardWriter:
    """Writes what is new in a recording to `<logdir>/gradscope`, whenever it is asked to.

    Each finished observed step is written once, in order. The table of findings is cumulative, so that
    TensorBoard, which keeps only a sample of the texts, always has the whole of it in the last one.
    """

    def __init__(self, logdir: str | PathLike[str]) -> None:
        self._writer = EventFileWriter(str(Path(logdir) / RUN), QUEUE, FLUSH_SECONDS)
        self._progress = Progress()
        self._last_text_step = -1
        self._observed = 0
        self._add(0, [_layout()])

    def write(self, recording: Recording, findings: tuple[Finding, ...]) -> None:
        """Write the scalars of the steps that are new, and the findings if they changed or the run is over."""
        self._write_scalars(recording, self._progress.new_steps(recording))
        if self._progress.news(recording, findings):
            self._write_findings(recording, findings)

    def close(self) -> None:
        """Write out what is pending and close the file."""
        self._writer.close()

    def _write_scalars(self, recording: Recording, steps: tuple[Step, ...]) -> None:
        if not steps:
            return
        self._observed += len(steps)
        written = digests(recording, steps)
        for row, step in enumerate(steps):
            scalars = (scalar for digest in written for scalar in digest.scalars(row))
            self._add(step.index, (Summary.Value(tag=tag, simple_value=value) for tag, value in scalars))

    def _write_findings(self, recording: Recording, findings: tuple[Finding, ...]) -> None:
        """TensorBoard keeps one text per step, so a second one in the same step counts as the next."""
        markdown = "\n\n".join([_findings_table(findings), *_worst_table(recording, finished(recording)[-1:])])
        self._last_text_step = max(self._progress.last_step, self._last_text_step + 1)
        table = _text(FINDINGS, markdown, text_plugin.create_summary_metadata("Findings", ""))
        self._add(self._last_text_step, [table, self._report(recording, findings)])

    def _report(self, recording: Recording, findings: tuple[Finding, ...]) -> Summary.Value:
        """The findings once more, in a form that can be read back."""
        steps = recording.steps[-1].index + 1 if recording.steps else 0
        report = Report(findings, steps=steps, observed=self._observed, cost=math.nan, notes=recording.lost)
        return _text(REPORT, json.dumps(to_dict(report), allow_nan=False), _UNSEEN)

    def _add(self, step: int, values: Iterable[Summary.Value]) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))


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


def _worst_table(recording: Recording, latest: tuple[Step, ...]) -> Iterator[str]:
    """A heading and a table of the worst sites, if anything was measured in the latest step."""
    rows = [_worst_row(digest) for digest in digests(recording, latest) if digest.measured.any()]
    if rows:
        yield f"Worst site of each statistic in step {latest[-1].index}, the furthest from the median:"
        yield _table(("statistic", "site", "value", "median"), rows)


def _worst_row(digest: Digest) -> tuple[str, ...]:
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
