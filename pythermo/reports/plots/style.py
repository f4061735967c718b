"""What all interactive plots share: colors, axes, and points with intervals."""

import html
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
import plotly.graph_objects as go
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from pythermo._checks import Floats
from pythermo.figures.style import BLUE, GREEN, ORANGE, PURPLE

T = TypeVar("T")

# A gray that shows on light and on dark pages.
GRAY = "#808080"
COLORS = (BLUE, ORANGE, GREEN, PURPLE, GRAY)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "x")


def blank(title: str, x: str, y: str, log_x: bool = True, log_y: bool = False) -> go.Figure:
    """Return a figure with titled axes and nothing drawn; the page gives it text and grid colors."""
    axis = {"showline": True, "ticks": "outside", "zeroline": False, "automargin": True}
    figure = go.Figure()
    figure.update_layout(
        template="none",
        title={"text": html.escape(title), "font": {"size": 15}, "x": 0.02},
        height=400,
        margin={"l": 60, "r": 12, "t": 46, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": -0.24, "yanchor": "top", "font": {"size": 11}},
        hovermode="closest",
        xaxis={**axis, "title": {"text": x}, "type": "log" if log_x else "linear", **_ticks(log_x)},
        yaxis={
            **axis,
            "title": {"text": y.replace(" (", "<br>(")},
            "type": "log" if log_y else "linear",
            **_ticks(log_y),
        },
    )
    return figure


def _ticks(logarithmic: bool) -> dict[str, Any]:
    return (
        {"exponentformat": "power", "minor": {"ticks": "outside"}} if logarithmic else {"exponentformat": "e"}
    )


def shades(count: int) -> list[str]:
    """Return colors of an order, told apart on light and on dark pages."""
    return [to_hex(color) for color in mpl.colormaps["viridis"](np.linspace(0.25, 0.85, count))]


def or_reason(draw: Callable[[T], go.Figure], what: T) -> go.Figure:
    """Draw something, or say why it cannot be drawn."""
    try:
        return draw(what)
    except ValueError as error:
        return say(blank("", "", "", log_x=False), f"not known: {error}")


def say(figure: go.Figure, text: str) -> go.Figure:
    """Say why there is nothing to be seen in a figure."""
    figure.add_annotation(text=html.escape(text), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    figure.update_xaxes(type="linear")
    return figure


def add_points(
    figure: go.Figure,
    x: NDArray[Any],
    y: NDArray[Any],
    name: str,
    color: str,
    interval: Floats | None = None,
    symbol: str = "circle",
    mode: str = "lines+markers",
    notes: Sequence[str] | None = None,
) -> None:
    """Draw points [n], with intervals [n, 2] where they are known and a note on each for the mouse."""
    logarithmic = figure.layout.yaxis.type == "log"
    shown = np.isfinite(y) & ((y > 0.0) | (not logarithmic))
    error = None
    if interval is not None:
        low, high = (np.where(np.isfinite(end), end, y) for end in np.asarray(interval).T)
        low = np.where((low > 0.0) | (not logarithmic), low, y)
        error = {
            "type": "data", "array": (high - y)[shown], "arrayminus": (y - low)[shown],
            "symmetric": False, "thickness": 1.2, "width": 3,
        }  # fmt: skip
    texts = (
        None if notes is None else [html.escape(note) for note, one in zip(notes, shown, strict=True) if one]
    )
    figure.add_scatter(
        x=x[shown],
        y=y[shown],
        error_y=error,
        mode=mode,
        name=html.escape(name),
        line={"color": color, "width": 1.4},
        marker={"color": color, "size": 7, "symbol": symbol},
        text=texts,
        hovertemplate=("%{text}" if texts is not None else "%{x:.4g}, %{y:.4g}")
        + "<extra>%{fullData.name}</extra>",
    )


def add_members(figure: go.Figure, x: NDArray[Any], y: NDArray[Any], notes: Sequence[str]) -> None:
    """Draw the values of single members [n] as small points that the mouse explains."""
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        name="members",
        marker={"color": GRAY, "size": 4, "opacity": 0.55},
        text=[html.escape(note) for note in notes],
        hovertemplate="%{text}<extra></extra>",
    )
