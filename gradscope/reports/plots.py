"""Recordings as matplotlib pictures. Nothing here touches pyplot: an Axes comes in or a new Figure is made."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from gradscope.records import Floats, Kind, Recording, Statistic

MOST_LABELS = 40
MOST_SLANTED = 16
LONGEST_LABEL = 32
LINE = "#20639b"
UNMEASURED, ZERO, NOT_FINITE = "#c8c8c8", "black", "magenta"


def gradient_flow(recording: Recording, *, step: int = -1, ax: Axes | None = None) -> Axes:
    """The rms of the gradient that arrived at each module's output in one step, over depth.

    The loss is at the right end. The band spans the 10th to the 90th percentile over the observed steps. Zeros
    are marked at the bottom and values that are not finite at the top: a logarithm has no place for either.

    Args:
        recording: what was measured.
        step: the step's index; -1 is the last observed step in which a gradient arrived anywhere.
        ax: where to draw; by default on a new Figure, which is `.figure` of the Axes returned.

    Raises:
        NotRecorded: the step was not observed, or is not kept any more.
    """
    counts = recording.values(Kind.ACTIVATION_GRADIENT, Statistic.COUNT)
    row = recording.row(step, Kind.ACTIVATION_GRADIENT)
    reached = np.flatnonzero(counts.any(axis=0))
    names = [recording.sites_of(Kind.ACTIVATION_GRADIENT)[column].path for column in reached]
    axes = _new_axes(5.0 + 0.16 * min(len(names), MOST_LABELS), 5.2) if ax is None else ax
    if row is None:
        return _say(axes, "No gradient arrived at any module in the observed steps.")
    values = recording.values(Kind.ACTIVATION_GRADIENT, Statistic.RMS)[:, reached]
    _draw_flow(axes, values, row)
    _mark(axes, values[row], counts[row, reached] > 0)
    _name_modules(axes, names)
    axes.set_title(f"Gradient arriving at each module's output, step {recording.observed[row].index}", loc="left")
    return axes


def history(
    recording: Recording,
    kind: Kind = Kind.ACTIVATION_GRADIENT,
    statistic: Statistic = Statistic.RMS,
    *,
    ax: Axes | None = None,
) -> Axes:
    """One statistic of every site over the observed steps, as a heat map of its order of magnitude.

    Sites are rows, in forward order from top to bottom; observed steps are columns. Signs are left out. What was
    not measured is grey, zeros are black, values that are not finite are magenta.
    """
    names = [site.path for site in recording.sites_of(kind)]
    axes = _new_axes(8.0, 2.4 + 0.17 * min(len(names), MOST_LABELS)) if ax is None else ax
    what = f"{kind.value.replace('_', ' ')} {statistic.value}"
    if not names or not recording.observed:
        return _say(axes, f"No {what} was measured.")
    values = np.abs(recording.values(kind, statistic)).T
    _draw_map(axes, values, recording.values(kind, Statistic.COUNT).T > 0, f"log10 of the {statistic.value}")
    _name_rows(axes, names)
    _name_steps(axes, [step.index for step in recording.observed])
    axes.set_title(what.capitalize(), loc="left")
    return axes


def _new_axes(width: float, height: float) -> Axes:
    return Figure(figsize=(width, height), dpi=120, layout="constrained").subplots()


def _say(axes: Axes, text: str) -> Axes:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set_axis_off()
    return axes


def _draw_flow(axes: Axes, values: Floats, row: int) -> None:
    """The line of one row of `values`, of shape (observed steps, modules), and the band of all of them."""
    shown = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    x, band = np.arange(shown.shape[1]), _band(shown)
    axes.set_yscale("log")
    if len(shown) > 1:
        axes.fill_between(x, *band, color=LINE, alpha=0.18, linewidth=0, label="p10 to p90 of the observed steps")
    size = 4 if len(x) <= MOST_LABELS else 2.5
    axes.plot(x, shown[row], color=LINE, marker="o", markersize=size, linewidth=1.4, label="this step")
    axes.set_xlim(-0.5, len(x) - 0.5)
    axes.set_ylim(*_limits(np.vstack([band, shown[row]])))
    axes.set_ylabel("gradient rms")
    axes.grid(axis="y", alpha=0.3)


def _band(shown: Floats) -> Floats:
    """The 10th and 90th percentile of each column, leaving NaN out, of shape (2, columns)."""
    band = np.full((2, shown.shape[1]), np.nan)
    known = ~np.isnan(shown).all(axis=0)
    if known.any():
        band[:, known] = np.nanpercentile(shown[:, known], [10, 90], axis=0)
    return band


def _limits(shown: Floats) -> tuple[float, float]:
    """Limits with room for marks below and above, at least two decades; around 1 when there is nothing to show."""
    known = np.log10(shown[~np.isnan(shown)])
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    room = max(0.16 * (high - low), 1.0 - 0.5 * (high - low), 0.3)
    return 10.0 ** (low - room), 10.0 ** (high + room)


def _mark(axes: Axes, values: Floats, measured: NDArray[np.bool_]) -> None:
    """Marks at the edges for what a logarithmic axis cannot show, and a legend."""
    zero, broken = np.flatnonzero(values == 0), np.flatnonzero(measured & ~np.isfinite(values))
    edge = axes.get_xaxis_transform()
    if zero.size:
        axes.plot(zero, np.full(zero.size, 0.03), "kv", markersize=5, transform=edge, label="zero")
        axes.plot(zero, np.full(zero.size, 0.08), linestyle="", marker="$0$", color=ZERO, markersize=5, transform=edge)
    if broken.size:
        axes.plot(broken, np.full(broken.size, 0.96), "X", color=NOT_FINITE, transform=edge, label="NaN or Inf")
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(loc="best", fontsize="small", framealpha=0.8)


def _name_modules(axes: Axes, names: Sequence[str]) -> None:
    positions = _thinned(len(names))
    slanted = len(names) <= MOST_SLANTED
    axes.set_xticks(
        positions,
        [_short(names[position]) for position in positions],
        rotation=40 if slanted else 90,
        ha="right" if slanted else "center",
        rotation_mode="anchor" if slanted else "default",
        fontsize="small",
    )
    axes.set_xlabel("modules in forward order; the loss is at the right end")


def _draw_map(axes: Axes, values: Floats, measured: NDArray[np.bool_], label: str) -> None:
    """Cells of `values`, of shape (sites, observed steps), coloured by order of magnitude."""
    finite = np.isfinite(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = np.log10(values)
    known = powers[measured & finite & (values > 0)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    scale = Normalize(low - 0.5, high + 0.5) if high - low < 1 else Normalize(low, high)
    marked = np.where(finite, np.where(values > 0, powers, -np.inf), np.inf)
    cells = np.ma.masked_array(np.clip(marked, low - 2, high + 2), ~measured)
    mesh = axes.pcolormesh(cells, cmap=_colours(), norm=scale, rasterized=True)
    if known.size:
        axes.figure.colorbar(mesh, ax=axes, label=label)
    _explain(axes, {ZERO: measured & (values == 0), NOT_FINITE: measured & ~finite, UNMEASURED: ~measured})


def _colours() -> Colormap:
    """Viridis without its darkest end, which looks like the black of a zero."""
    bright = ListedColormap(colormaps["viridis"](np.linspace(0.12, 1.0, 256)))
    return bright.with_extremes(bad=UNMEASURED, under=ZERO, over=NOT_FINITE)


def _explain(axes: Axes, cells: dict[str, NDArray[np.bool_]]) -> None:
    """A legend for the special colours that occur."""
    words = {ZERO: "zero", NOT_FINITE: "NaN or Inf", UNMEASURED: "not measured"}
    patches = [Patch(color=colour, label=words[colour]) for colour, where in cells.items() if where.any()]
    if patches:
        axes.legend(
            handles=patches,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=len(patches),
            frameon=False,
            fontsize="small",
            borderpad=0.2,
        )


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    positions = _thinned(len(names))
    axes.set_yticks([p + 0.5 for p in positions], [_short(names[p]) for p in positions], fontsize="small")
    axes.invert_yaxis()


def _name_steps(axes: Axes, steps: Sequence[int]) -> None:
    positions = _thinned(len(steps), most=10)
    axes.set_xticks([p + 0.5 for p in positions], [str(steps[p]) for p in positions])
    axes.set_xlabel("observed step")


def _thinned(count: int, most: int = MOST_LABELS) -> range:
    """Evenly spaced positions of at most so many labels."""
    return range(0, count, -(-count // most) or 1)


def _short(name: str) -> str:
    """A path of which the end is kept, because there paths differ; `$` would start a formula."""
    short = name if len(name) <= LONGEST_LABEL else f"\N{HORIZONTAL ELLIPSIS}{name[1 - LONGEST_LABEL :]}"
    return short.replace("$", r"\$")
