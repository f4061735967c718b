"""Reports as one page of HTML that needs no network."""

import base64
import re
from functools import cache
from importlib.resources import files

from pythermo.reports.sections import Picture, Plot, Report

_ASSETS = files("pythermo.reports") / "assets"
_NUMBER = re.compile(r"[-+]?\d+\.?\d*(e[-+]?\d+)?")
_CONFIG = {"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}


def html(report: Report, seconds: int | None = None) -> str:
    """Return a report as a page that holds all it needs: styles, scripts, data.

    Parameters
    ----------
    report : Report
        Its texts are escaped; a title that repeats has one anchor, the first.
    seconds : int, optional
        The page reads itself anew after so many, for one that is written again and again.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from plotly.io import to_html
    from plotly.offline import get_plotlyjs

    def drawn(plot: Plot) -> Markup:
        text = to_html(plot.draw(), config=_CONFIG, include_plotlyjs=False, full_html=False)
        return Markup(text)  # plotly escapes what could end a script

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"anchor": anchor, "sort_key": sort_key, "as_data": _as_data, "drawn": drawn}
    return environment.from_string(_part("page.html.j2")).render(
        report=report,
        seconds=seconds,
        css=Markup(_part("page.css")),
        plotly_js=Markup(get_plotlyjs()),
        table_js=Markup(_part("sortable.min.js")),
    )


def anchor(title: str) -> str:
    """Return a title as the name of a place in a page."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def sort_key(cell: str) -> str:
    """Return the number that a cell begins with, by which rows are sorted, or else the cell."""
    found = _NUMBER.match(cell)
    return found.group() if found else cell


def _as_data(picture: Picture) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"


@cache
def _part(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
