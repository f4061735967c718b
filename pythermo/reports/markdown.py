"""Reports as Markdown."""

from pythermo.reports.sections import Report, Section, Table


def markdown(report: Report) -> str:
    """Return a report as Markdown; plots, pictures and what is folded are for pages alone."""
    blocks = [f"# {report.title}"]
    for section in report.sections:
        if not section.folded and not section.plots:
            blocks += _blocks(section)
    return "\n\n".join(blocks) + "\n"


def _blocks(section: Section) -> list[str]:
    blocks = [f"## {section.title}"] if section.title else []
    if section.facts:
        facts = (
            f"* {one.label}: **{one.value}**{f' ({one.note})' if one.note else ''}" for one in section.facts
        )
        blocks.append("\n".join(facts))
    blocks += section.paragraphs
    if section.advice:
        blocks.append("\n".join(f"* **{one.warning}** {one.remedy}" for one in section.advice))
    return blocks if section.table is None else [*blocks, markdown_table(section.table)]


def markdown_table(table: Table) -> str:
    """Return a table as Markdown."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
