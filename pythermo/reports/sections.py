"""What a report is made of: sections of facts, paragraphs, advice, tables and plots, for any renderer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header, as text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Fact:
    """One number of a headline as text, with what it is and what is to be known of it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Advice:
    """What to be careful with, and what to do about it."""

    warning: str
    remedy: str


@dataclass(frozen=True)
class Plot:
    """An interactive plot, drawn when it is shown, and a sentence on what it shows."""

    caption: str
    draw: Callable[[], "Figure"]


@dataclass(frozen=True)
class Picture:
    """A PNG, with a text in its place."""

    caption: str
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class Section:
    """What belongs together; without a title it follows what is before it.

    Plots and pictures are for pages alone; ``folded`` says that a page shows no more than the title at first.
    """

    title: str = ""
    paragraphs: Sequence[str] = ()
    table: Table | None = None
    facts: Sequence[Fact] = ()
    advice: Sequence[Advice] = ()
    plots: Sequence[Plot] = ()
    pictures: Sequence[Picture] = ()
    code: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Report:
    """A whole report."""

    title: str
    sections: Sequence[Section]
