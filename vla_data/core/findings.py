"""What is said to a person: findings, and sections of rows. One model, shown as text or as HTML."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

from vla_data.core.episode import Json

Level = Literal["note", "warning", "error"]
WIDTH: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a person should know of a dataset.

    Attributes:
        code: a published word that programs can look for.
        message: a sentence, with the figures.
        where: what it is about, such as a feature, a file or a dataset; empty for all of it.
        level: how bad it is.
        elements: which numbers of a feature it is about; empty for all of them.
        fix: the command, or the deed, that mends it; empty where none is known.
    """

    code: str
    message: str
    where: str = ""
    level: Level = "warning"
    elements: tuple[int, ...] = ()
    fix: str = ""

    def to_json(self) -> dict[str, Json]:
        """JSON-ready; without ``fix`` where there is none."""
        facts = {**asdict(self), "elements": list(self.elements)}
        if not self.fix:
            del facts["fix"]
        return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Rows under a title.

    Attributes:
        title: empty where the rows speak for themselves.
        head: names of the columns, or nothing.
        rows: cells; a first cell that begins with spaces belongs to the row above.
        right: the columns that hold numbers and end at the right.
        notes: sentences below the rows.
    """

    title: str = ""
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    right: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Text: columns as wide as they need, notes of at most 80 columns."""
        table = [*([self.head] if self.head else []), *self.rows]
        widths = _widths(table)
        out = [self.title] if self.title else []
        for row in table:
            cells = [
                cell.rjust(width) if at in self.right else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=False))
            ]
            out.append("  " + "  ".join(cells).rstrip())
        for note in self.notes:
            out += textwrap.wrap(
                note, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
            ) or [""]
        return out

    def to_html(self) -> str:
        """An HTML fragment; everything in it is escaped."""
        out = [f"<h3>{html.escape(self.title)}</h3>"] if self.title else []
        if self.head or self.rows:
            out.append("<table>")
            out += [_html_row(row, "th", self.right) for row in ([self.head] if self.head else [])]
            out += [_html_row(row, "td", self.right) for row in self.rows]
            out.append("</table>")
        out += [f"<p>{html.escape(note)}</p>" for note in self.notes]
        return "".join(out)


def text_of(sections: Iterable[Section]) -> str:
    """Sections one below the other, an empty line between them."""
    return "\n\n".join("\n".join(section.lines()) for section in sections)


def html_of(sections: Iterable[Section]) -> str:
    """Sections as one HTML fragment, as notebooks show it."""
    return f"<div>{''.join(section.to_html() for section in sections)}</div>"


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Widths of all columns but the last of each row, which may be a sentence."""
    columns = max((len(row) for row in rows), default=0)
    return [
        max((len(row[at]) for row in rows if at < len(row) and (at < columns - 1 or columns == 1)), default=0)
        for at in range(columns)
    ]


def _html_row(cells: Sequence[str], tag: str, right: frozenset[int]) -> str:
    made = []
    for at, cell in enumerate(cells):
        style = ' style="text-align:right"' if at in right else ' style="text-align:left"'
        inset = "&emsp;" * ((len(cell) - len(cell.lstrip())) // 2) if at == 0 else ""
        scope = ' scope="col"' if tag == "th" else ""
        made.append(f"<{tag}{scope}{style}>{inset}{html.escape(cell.strip())}</{tag}>")
    return f"<tr>{''.join(made)}</tr>"
