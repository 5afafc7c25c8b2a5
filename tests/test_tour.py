"""The notebook runs from top to bottom and prints what it shows.

With the environment variable GRADSCOPE_UPDATE=1, its outputs are written anew.
"""

import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from test_documents import ROOT, comparable

TOUR = ROOT / "examples" / "tour.ipynb"
VERSION = 4


def run(notebook: Any, folder: Path) -> Any:
    """The notebook with the outputs of a run in this folder; raises what a cell raises."""
    resources = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, timeout=120, record_timing=False, resources=resources).execute()


def printed(notebook: Any) -> list[str]:
    """What each cell prints, in however many pieces. Tables and pictures are left out: their last digits differ."""
    outputs = [cell.get("outputs", []) for cell in notebook.cells]
    texts = ["".join(each["text"] for each in cell if each["output_type"] == "stream") for cell in outputs]
    return [comparable(text) for text in texts]


def kinds(notebook: Any) -> list[set[str]]:
    """The formats of what the cells show, cell by cell."""
    return [{kind for output in cell.get("outputs", []) for kind in output.get("data", {})} for cell in notebook.cells]


def test_the_tour_shows_what_its_cells_print(tmp_path: Path) -> None:
    shown = nbformat.read(TOUR, VERSION)
    real = run(nbformat.read(TOUR, VERSION), tmp_path)
    if os.environ.get("GRADSCOPE_UPDATE") == "1":
        nbformat.write(real, TOUR)
        return
    assert printed(shown) == printed(real), "write the outputs anew: GRADSCOPE_UPDATE=1 make test"
    assert kinds(shown) == kinds(real)


def test_the_tour_finds_what_it_promises() -> None:
    told = "".join(printed(nbformat.read(TOUR, VERSION)))
    assert "vanishing-gradient" in told
    assert "detached-tensor" in told
    assert "Cell In[" in told
    assert {"image/png", "text/html"} <= set().union(*kinds(nbformat.read(TOUR, VERSION)))
