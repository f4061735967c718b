"""What all figures share: colors, style, axes, and how they are written."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from pythermo.sweeps.files import as_path, destination, write_whole

T = TypeVar("T")

# Okabe and Ito's colors, which color-blind readers can tell apart.
BLUE, ORANGE, GREEN, PURPLE, GRAY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,
}
_FEW_POWERS, _NARROW = 1e3, 5.0
LR_LABEL = "learning rate η"


@contextmanager
def own_style(changes: dict[Any, Any] | None = None) -> Iterator[None]:
    """Draw as we do, whatever the user's rcParams say: they are set aside, and found again as they were."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({**STYLE, **(changes or {})})
        yield


def require_some(name: str, titled: object) -> None:
    """Raise unless there is something to be drawn, by title."""
    if not isinstance(titled, Mapping):
        raise TypeError(
            f"{name}: must be a mapping from titles to what is drawn, not {type(titled).__name__}"
        )
    if not titled:
        raise ValueError(f"{name}: at least one is needed to draw a figure")


def distinct() -> Iterator[tuple[str, str]]:
    """Give colors with markers for things without an order, for ever."""
    return zip(cycle((BLUE, ORANGE, GREEN, PURPLE, "black")), cycle("osD^v"))


def shades(count: int) -> list[Any]:
    """Return colors of an order: dark for the first, light for the last, told apart in gray as well."""
    return list(mpl.colormaps["viridis"](np.linspace(0.0, 0.85, count)))


def save(figure: Figure, path: str | Path) -> list[Path]:
    """Write a figure as PNG and as PDF: ``path`` is their common name without an ending."""
    if not isinstance(figure, Figure):
        raise TypeError(f"figure: must be a matplotlib Figure, not {type(figure).__name__}")
    stem = as_path("path", path)
    targets = [destination("path", stem.with_name(f"{stem.name}.{kind}")) for kind in ("png", "pdf")]
    with own_style():  # much of a figure is chosen when it is drawn
        for target in targets:
            kind = target.suffix[1:]
            write_whole(target, partial(figure.savefig, format=kind, dpi=200, bbox_inches="tight"))
    return targets


def stretches(lr: NDArray[np.float64], values: Sequence[T]) -> list[tuple[T, float, float]]:
    """Return the stretches of learning rates that have one value, halfway to their neighbors."""
    edges = np.sqrt(lr[1:] * lr[:-1])
    left = np.concatenate([[lr[0] ** 2 / edges[0]], edges]) if len(edges) else lr
    right = np.concatenate([edges, [lr[-1] ** 2 / edges[-1]]]) if len(edges) else lr
    merged: list[tuple[T, float, float]] = []
    for value, start, stop in zip(values, left, right, strict=True):
        if merged and merged[-1][0] == value:
            start = merged.pop()[1]
        merged.append((value, float(start), float(stop)))
    return merged


def say(axes: Axes, text: str) -> None:
    """Say in the middle of axes why they are empty."""
    axes.text(0.5, 0.5, text, ha="center", va="center", wrap=True, fontsize=8, transform=axes.transAxes)


def legend_beside(axes: Axes, labeled: Axes) -> None:
    """Put the legend of some axes to the right of others, or of their own, where it hides no data."""
    handles, labels = labeled.get_legend_handles_labels()
    axes.legend(handles, labels, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))


def label_short_axis(axis: Axis) -> None:
    """Label 1, 2 and 5 times powers of ten where a logarithmic axis spans few of them, or round numbers."""
    low, high = axis.get_view_interval()
    axis.set_minor_formatter(NullFormatter())
    if high > _FEW_POWERS * low > 0.0:
        return
    if high < _NARROW * low:
        axis.set_major_locator(MaxNLocator(4))
        axis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:.3g}" if value < 1000 else f"{value:.0f}")
        )
        return
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(10.0, 10.0)))
