"""What a report is made of: a title and sections of paragraphs with a table, for any renderer."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header, as text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """Paragraphs and perhaps a table; without a title it follows what is before it."""

    title: str = ""
    paragraphs: Sequence[str] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Report:
    """A whole report."""

    title: str
    sections: Sequence[Section]
