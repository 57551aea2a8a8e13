"""A table of layers as plain text."""

from collections.abc import Sequence


def format_layers(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int]
) -> list[str]:
    """Lines of a table with a rule above and below the head and at its end.

    Args:
      head: one title a column.
      rows: cells, as many a row as `head` has; a cell may have several lines.
      left: columns that are aligned on the left, the others are on the right.
    """
    lines = [list(head)]
    for row in rows:
        cells = [cell.split("\n") for cell in row]
        for number in range(max(map(len, cells))):
            lines.append([cell[number] if number < len(cell) else "" for cell in cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def text(cells: Sequence[str]) -> str:
        return "  ".join(
            f"{cell:<{width}}" if column in left else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return [rule, text(lines[0]), rule, *map(text, lines[1:]), rule]
