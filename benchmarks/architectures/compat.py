"""Lets torchvision be imported, and its detection models be trained, where its compiled operators do not load.

torchvision's published wheels are linked against CUDA builds of torch. Next to a CPU build the library of
operators fails to load, and the import of torchvision itself then fails, because it registers a shape function
for the missing operator `nms`. Only there, `ensure_operators` declares the missing operators, gives `nms` an
implementation in Python, and lets torchvision's own Python version of `roi_align` run as it is, where
torchvision would compile it for minutes and with a C++ compiler. Where torchvision works, it does nothing.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

_declared: list[torch.library.Library] = []


def ensure_operators() -> None:
    """Call this before torchvision is imported, also by another library. A second call does nothing."""
    if "torchvision" in sys.modules or _loads():
        return
    library = torch.library.Library("torchvision", "DEF")
    _declared.append(library)  # the operators live as long as the library object
    for name, schema in SCHEMAS.items():
        library.define(name + schema)
    library.impl("nms", nms, "CPU")
    from torchvision.ops import boxes, roi_align  # noqa: PLC0415  only now it can be imported

    boxes._assert_has_ops = _has_nms
    module: Any = sys.modules[roi_align.__module__]
    module._roi_align = module._roi_align.__wrapped__


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression: of boxes (n, 4) that overlap, keep the one with the highest score.

    Returns the indices of the kept boxes, highest score first.
    """
    order = scores.argsort(descending=True, stable=True)
    overlap = (_iou(boxes[order]) > iou_threshold).numpy()
    alive = [True] * len(order)
    kept = []
    for i in range(len(order)):
        if alive[i]:
            kept.append(i)
            for j in overlap[i].nonzero()[0].tolist():
                alive[j] = False
    return order[kept]


def _iou(boxes: Tensor) -> Tensor:
    """Intersection over union of each pair of boxes, (n, n)."""
    low = torch.maximum(boxes[:, None, :2], boxes[:, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[:, 2:])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    shared = (high - low).clamp(min=0).prod(2)
    return shared / (area[:, None] + area - shared)


def _has_nms() -> None:
    """Replaces torchvision's check for compiled operators where `nms` is called."""


def _loads() -> bool:
    """Whether the compiled operators are there and load."""
    spec = find_spec("torchvision")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    try:
        for library in folder.glob("_C.*"):
            torch.ops.load_library(str(library))
    except OSError:
        return False
    return hasattr(torch.ops.torchvision, "nms")
