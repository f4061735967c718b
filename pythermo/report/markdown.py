"""Reports as Markdown."""

from pythermo.report.sections import Report, Table


def markdown(report: Report) -> str:
    """Return a report as Markdown."""
    blocks = [f"# {report.title}"]
    for section in report.sections:
        blocks += [f"## {section.title}"] if section.title else []
        blocks += section.paragraphs
        blocks += [] if section.table is None else [markdown_table(section.table)]
    return "\n\n".join(blocks) + "\n"


def markdown_table(table: Table) -> str:
    """Return a table as Markdown."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
