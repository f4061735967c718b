"""The page of a folder of sweeps: finished, running or stopped."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pythermo._checks import require_integer
from pythermo.reports.html import html
from pythermo.reports.markdown import markdown
from pythermo.reports.sections import Picture, Report
from pythermo.reports.sweeps import sweeps_report
from pythermo.sweeps import files
from pythermo.sweeps.setups import read_so_far

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY, PAGE = "summary.md", "report.html"


def report(out: str | Path) -> Path:
    """Write the page of the sweeps that lie in a folder, whether they are finished or not.

    Parameters
    ----------
    out : path
        Folder of a sweep or of several, as `pythermo.sweep` and ``pythermo reproduce`` make them.

    Returns
    -------
    Path
        ``report.html`` in that folder. It holds all it needs, and opens from disk without a network.

    Raises
    ------
    FileNotFoundError
        If the folder holds no sweep.
    ValueError
        For a sweep that cannot be analyzed, such as one whose windows are too short for the entropy, or whose
        files are damaged.

    Examples
    --------
    >>> pt.report("out/digits-quick")  # doctest: +SKIP
    """
    folder = files.as_path("out", out)
    return write_page(folder, sweeps_report(*read_so_far(folder)))


def write_page(folder: Path, content: Report, seconds: int | None = None) -> Path:
    """Write a report as a page into a folder; ``seconds`` after which a browser reads it anew."""
    files.write_text(folder / PAGE, html(content, seconds))
    return folder / PAGE


def write_report(folder: Path, content: Report) -> list[Path]:
    """Write a report as Markdown and as a page into a folder."""
    files.write_text(folder / SUMMARY, markdown(content))
    return [folder / SUMMARY, write_page(folder, content)]


def picture(figure: "Figure", caption: str) -> Picture:
    """Return a figure as a report shows it, coarser than it is written."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100, bbox_inches="tight")
    return Picture(caption, file.getvalue())


def watch(out: str | Path, seconds: int = 10, said: Callable[[str], object] = print) -> Path:
    """Write the page of sweeps that are running anew every few seconds, until all are finished.

    Parameters
    ----------
    out : path
        As in `report`.
    seconds : int
        Between two writings, at least; what runs have measured is renewed with their checkpoints.
    said : callable
        Hears how far the sweeps are.

    Returns
    -------
    Path
        The page of the finished sweeps.

    Raises
    ------
    FileNotFoundError, ValueError
        As `report`.
    """
    folder, seconds = files.as_path("out", out), require_integer("seconds", seconds, 1)
    shown = ""
    while True:
        setups, waiting = read_so_far(folder)
        progress = [*(one.progress for one in setups), *(one.progress for one in waiting)]
        if all(one.complete for one in progress):
            return write_page(folder, sweeps_report(setups, waiting))
        page = write_page(folder, sweeps_report(setups, waiting), seconds)
        finished, members = sum(one.finished for one in progress), sum(one.members for one in progress)
        text = f"{page}: {finished} of {members} runs finished"
        if text != shown:
            said(text)
            shown = text
        time.sleep(seconds)
