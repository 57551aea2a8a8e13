"""A table as plain text, and names in tables that other programs open."""

from collections.abc import Sequence


def format_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, framed: bool = False
) -> str:
    """Columns wide enough for their longest cell, a rule below the head.

    Args:
      head: one title a column.
      rows: cells as text, as many a row as `head` has; a cell may have several lines.
      left: so many columns are aligned on the left, the others on the right.
      framed: whether there is a rule above and below the table, too.
    """
    lines = [list(head)]
    for row in rows:
        cells = [cell.split("\n") for cell in row]
        for number in range(max(map(len, cells))):
            lines.append([cell[number] if number < len(cell) else "" for cell in cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def text(cells: Sequence[str]) -> str:
        words = [
            f"{cell:<{width}}" if place < left else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(words).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    table = [text(lines[0]), rule, *map(text, lines[1:])]
    return "\n".join([rule, *table, rule] if framed else table)


def csv_name(name: str) -> str:
    """A class name for a cell of a CSV file: with an apostrophe before it where a spreadsheet would
    take it for a formula and carry it out."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
