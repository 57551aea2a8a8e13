"""A table as plain text."""

from collections.abc import Sequence


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Columns wide enough for their longest cell, a rule below the head.

    Args:
      head: one title a column.
      rows: cells as text, as many a row as `head` has.
      left: so many columns are aligned on the left, the others on the right.
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def text(cells: Sequence[str]) -> str:
        words = [
            f"{cell:<{width}}" if place < left else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(words).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([text(head), rule, *map(text, rows)])
