"""``docs/benchmarks.md`` from the results that are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from benchmarks import harness
from benchmarks.results import Cell, Result, Table

FILE: Final = harness.REPOSITORY / "docs" / "benchmarks.md"
_HEAD: Final = """\
# Benchmarks

Written by `python -m benchmarks`, which runs every case and this page anew; `--quick` takes fewer and shorter
rounds, and names after it (`P1 P9`) run these cases alone. Sides run in turn (ours, theirs, ours, theirs) on the
same files, each in its own process, and so do the limits. Figures are medians, with the least and the greatest in
brackets. **CPU s** are user and system seconds of a command with all processes that it starts, which other work on
the machine changes least; memory is PSS, shared pages counted once, of all of them. Absolute figures move from
machine to machine: look at the ratios. `benchmarks/README.md` says what each case measures.

Each section says at which commit it was measured. One that is marked **old** speaks of code that has changed
since.
"""


def page(sections: Iterable[tuple[str, str, Result | None]]) -> str:
    """The whole page.

    Args:
        sections: title, a paragraph about it, and the result; None for a case that was never run.
    """
    parts = [_HEAD]
    for title, about, result in sections:
        lines = [f"## {title}", ""]
        if result is None:
            lines += [about, "", "Not measured yet."]
        elif result.body:
            lines += [_state(result), "", result.body.strip()]
        else:
            lines += [about, "", _state(result), ""]
            lines += ["\n\n".join(map(markdown, result.tables))]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def markdown(table: Table) -> str:
    """A table with its title and note."""
    head = [f"**{table.title}**", ""] if table.title else []
    rows = [[_shown(cell) for cell in row] for row in table.rows]
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*head, *lines, *(["", table.note] if table.note else [])])


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool) or not isinstance(cell, float):
        return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.2f}"


def _state(result: Result) -> str:
    words = [f"Measured at {'or before ' if result.body else ''}`{result.commit}`"]
    if result.machine:
        words.append(_machine(result.machine))
    if result.settings:
        words.append(", ".join(f"{key} {value}" for key, value in result.settings.items()))
    old = " **Old: the code has changed since.**" if result.is_old() else ""
    return "; ".join(words) + "." + old


def _machine(facts: Mapping[str, object]) -> str:
    load = facts.get("load_average")
    busy = f", load {load[0]:g}" if isinstance(load, Sequence) and load else ""
    return f"{facts['cpu']}, {facts['cores']} cores{busy}"
