"""Reads back what runs have left in a log directory, without torch and without the model."""

import json
from collections.abc import Iterator
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from gradscope.errors import NothingStored
from gradscope.exchange import from_dict
from gradscope.findings import Report
from gradscope.summary import Summary

RUN = "gradscope"
TAG = "report"
FILES = "events.out.tfevents.*"


def stored(logdir: str | Path) -> Summary:
    """The last report of each run at or below a log directory, by the run's folder.

    Raises:
        NothingStored: there is none.
    """
    top = Path(logdir)
    folders = sorted({file.parent for file in top.rglob(FILES) if file.parent.name == RUN})
    found = {folder: report for folder in folders if (report := _last(folder)) is not None}
    if not found:
        raise NothingStored(f"nothing of gradscope is stored in {str(top)!r}: name the log directory of a watched run")
    return Summary({str(folder.parent.relative_to(top)): report for folder, report in found.items()})


def _last(folder: Path) -> Report | None:
    texts = [text for file in sorted(folder.glob(FILES)) for text in _texts(file)]
    return from_dict(json.loads(texts[-1])) if texts else None


def _texts(file: Path) -> Iterator[str]:
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            if value.tag == TAG and value.tensor.string_val:
                yield value.tensor.string_val[0].decode("utf-8", "replace")
