"""Recordings as pandas frames: `frame` has everything, `flow` the gradient on its way back."""

from collections.abc import Iterable, Mapping
from functools import reduce

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradscope.records import UNMEASURED, Floats, Kind, Recording, Site, Statistic, derive, merge

NUMBERS = (
    Statistic.MEAN,
    Statistic.STD,
    Statistic.RMS,
    Statistic.NORM,
    Statistic.MIN,
    Statistic.MAX,
    Statistic.ABS_MAX,
)
FLAGS = (Statistic.NAN, Statistic.INF)


def frame(recording: Recording) -> pd.DataFrame:
    """Everything measured: one row per observed step and site that was measured in it.

    Rows are ordered by step, then in forward order. Columns: step, module, module_type, kind, name, shape
    (a tuple), dtype, count, mean, std, rms, norm, min, max, abs_max, and the booleans nan and inf.
    Grouping by module sorts by name; `groupby("module", sort=False)` keeps the forward order.
    """
    rows, columns = np.nonzero(recording.stored[..., 0])
    stored = recording.stored[rows, columns]
    steps = np.array([step.index for step in recording.observed], np.int64)
    return pd.DataFrame(
        {
            "step": steps[rows],
            **_descriptions(recording.sites, columns),
            "count": stored[:, 0].astype(np.int64),
            **{statistic.value: derive(stored, statistic) for statistic in NUMBERS},
            **{statistic.value: derive(stored, statistic).astype(bool) for statistic in FLAGS},
        }
    )


def flow(recording: Recording, step: int = -1) -> pd.DataFrame:
    """The gradient of one step on its way back: one row per module that received one, in forward order.

    Backpropagation is a product of local derivatives; this table shows which factor kills or blows up the
    product. Columns:

    - module, module_type
    - gradient_rms: of the gradient that arrived at the module's output, all its tensors together
    - gain: what the module made of it, as the rms of the gradient that arrived at the outputs it was computed
      from (they may have received more from elsewhere, as on a residual path) over gradient_rms;
      NaN where no gradient was measured there, and for 0/0
    - product: gradient_rms over that of the last row, the output nearest to the loss

    Args:
        recording: what was measured.
        step: the step's index; -1 is the last observed step in which a gradient arrived anywhere.

    Raises:
        NotRecorded: the step was not observed, or is not kept any more.
    """
    types = {site.module: site.module_type for site in recording.sites_of(Kind.ACTIVATION_GRADIENT)}
    arrived = _arrived(recording, recording.row(step, Kind.ACTIVATION_GRADIENT))
    sources = recording.graph.sources
    before = {module: _merged(arrived, sources.get(module, ())) for module in arrived}
    rms, source_rms = _rms(arrived), _rms(before)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        gain, product = source_rms / rms, rms / rms[-1:]
    return pd.DataFrame(
        {
            "module": pd.array(list(arrived), dtype="str"),
            "module_type": pd.array([types[module] for module in arrived], dtype="str"),
            "gradient_rms": rms,
            "gain": gain,
            "product": product,
        }
    )


def _descriptions(sites: tuple[Site, ...], columns: NDArray[np.intp]) -> dict[str, object]:
    """The columns that say what was measured, taken from the sites in one go."""
    kinds = pd.Index([kind.value for kind in Kind])
    codes = np.array([list(Kind).index(site.kind) for site in sites], np.intp)
    return {
        "module": _texts((site.module for site in sites), columns),
        "module_type": _texts((site.module_type for site in sites), columns),
        "kind": pd.Categorical.from_codes(codes[columns], kinds),
        "name": _texts((site.name for site in sites), columns),
        "shape": np.fromiter((site.shape for site in sites), object, len(sites))[columns],
        "dtype": _texts((site.dtype for site in sites), columns),
    }


def _texts(values: Iterable[str], columns: NDArray[np.intp]) -> pd.api.extensions.ExtensionArray:
    return pd.array(list(values), dtype="str").take(columns)


def _arrived(recording: Recording, row: int | None) -> Mapping[str, Floats]:
    """Stored statistics of the gradient that arrived at each module's output, where one did."""
    arrived: dict[str, Floats] = {}
    if row is not None:
        for site, stored in zip(recording.sites, recording.stored[row], strict=True):
            if site.kind is Kind.ACTIVATION_GRADIENT and stored[0] > 0:
                arrived[site.module] = merge(arrived.get(site.module, UNMEASURED), stored)
    return arrived


def _merged(arrived: Mapping[str, Floats], modules: Iterable[str]) -> Floats:
    return reduce(merge, (arrived[module] for module in modules if module in arrived), UNMEASURED)


def _rms(stored: Mapping[str, Floats]) -> Floats:
    return derive(np.array(list(stored.values())).reshape(-1, len(UNMEASURED)), Statistic.RMS)
