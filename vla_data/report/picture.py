"""The report in one picture, for a chat or a slide: the flow, a few episodes, actions, lengths, findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from vla_data.core import Array, Json
from vla_data.core.findings import Finding
from vla_data.core.ledger import BUCKETS, Ledger
from vla_data.measuring.row import Row
from vla_data.report.canvas import EDGE, KINDS, MAIN, SOFT, WIDTH, Canvas
from vla_data.report.elements import labels, units
from vla_data.report.looked import Looked
from vla_data.report.numbers import edges_of, heights_of
from vla_data.report.strips import Strip
from vla_data.report.words import cut

_FILMS: Final = 3
_CARDS: Final = 14
_ACROSS: Final = 7
_FOUND: Final = 5
_LEVELS: Final = {"error": KINDS["failed"], "warning": KINDS["pruned"], "note": SOFT}


def picture(
    title: str,
    facts: Mapping[str, Json],
    *,
    ledger: Ledger | None,
    looked: Looked,
    dropped: Looked | None,
    values: Mapping[str, Array],
    measured: Sequence[Row],
    found: Sequence[Finding],
) -> bytes:
    """A PNG, 1,200 pixels wide, of what the report's page has; arguments are those of its sections."""
    canvas = Canvas()
    canvas.text(cut(title, 90), size=28)
    steps = sum(one.steps or 0 for one in measured)
    some = "" if facts["episodes_read"] == facts["episodes"] else f", {facts['episodes_read']:,} of them read"
    canvas.text(
        f"{facts['format']}: {facts['episodes']:,} episodes{some}; {steps:,} steps; robot "
        f"{cut(facts.get('robot') or 'not declared', 30)}",
        colour=SOFT,
    )
    _flow(canvas, ledger)
    _films(canvas, "In the dataset", looked.strips)
    _films(canvas, "Dropped", dropped.strips if dropped is not None else ())
    _actions(canvas, looked, values)
    _lengths(canvas, measured)
    _findings(canvas, found)
    canvas.y += 8
    canvas.text(
        "A picture says what was counted, not how well a policy will do; the page says what it cannot tell.",
        colour=SOFT,
        size=14,
    )
    return canvas.png()


def _flow(canvas: Canvas, ledger: Ledger | None) -> None:
    canvas.heading("What came in, what came out")
    if ledger is None:
        canvas.text("There is no ledger: what was taken out before, and why, is not known.", colour=SOFT)
        return
    counts = ledger.counts()
    canvas.text(
        f"{counts['total_files']:,} episodes came in, {counts['published_episodes']:,} came out; "
        f"{counts['source']:,} source frames:"
    )
    canvas.shares([(name, int(counts[name])) for name in BUCKETS])
    reasons = Counter(
        f"{span.bucket}: {span.reason}" for record in ledger.records for span in record.spans if span.reason
    )
    if reasons:
        canvas.text("Why: " + ", ".join(cut(reason, 40) for reason, _ in reasons.most_common(4)), colour=SOFT)


def _films(canvas: Canvas, title: str, strips: Sequence[Strip]) -> None:
    """A strip of one camera an episode."""
    first = {strip.episode: strip for strip in reversed(strips)}
    chosen = [strip for strip in strips if first.get(strip.episode) is strip][:_FILMS]
    if not chosen:
        return
    canvas.heading(title)
    for strip in chosen:
        note = f" · {cut(strip.note, 60)}" if strip.note else ""
        canvas.text(f"{cut(strip.episode, 70)}{note}", size=14, colour=SOFT)
        canvas.film(strip.pictures, tall=96)


def _actions(canvas: Canvas, looked: Looked, values: Mapping[str, Array]) -> None:
    table = values.get("action")
    feature = looked.schema.features.get("action") if looked.schema is not None else None
    if table is None or feature is None:
        return
    canvas.heading(f"Actions, {len(table):,} steps")
    told = list(zip(labels(feature), units(feature, looked.convention("action")), table.T, strict=False))
    gap = 10
    wide = (WIDTH - 2 * EDGE - (_ACROSS - 1) * gap) // _ACROSS
    tall = 120
    top = canvas.y
    for at, (label, unit, column) in enumerate(told[:_CARDS]):
        x, y = EDGE + (at % _ACROSS) * (wide + gap), top + (at // _ACROSS) * (tall + gap)
        edges = edges_of(float(column.min()), float(column.max()))
        canvas.card(x, y, wide, tall)
        canvas.text(cut(label, 18), x=x + 8, y=y + 6, size=14)
        canvas.histogram(heights_of(column, edges), x=x + 8, y=y + 28, wide=wide - 16, tall=48)
        canvas.text(f"{column.min():.3g} to {column.max():.3g}", x=x + 8, y=y + 82, size=13)
        canvas.text(cut(unit, 22), x=x + 8, y=y + 99, size=12, colour=SOFT)
    rows = -(-min(len(told), _CARDS) // _ACROSS)
    canvas.y = top + rows * (tall + gap)
    if len(told) > _CARDS:
        canvas.text(f"and {len(told) - _CARDS} more", size=14, colour=SOFT)


def _lengths(canvas: Canvas, measured: Sequence[Row]) -> None:
    steps = np.array([one.steps or 0 for one in measured])
    if not len(steps):
        return
    known = [one.success for one in measured if one.success is not None]
    solved = f"; {sum(known):,} of {len(known):,} have a success flag" if known else ""
    canvas.heading("Lengths")
    canvas.text(f"{steps.min():,} to {steps.max():,} steps, median {np.median(steps):g}{solved}")
    counts = np.histogram(steps, 48, (0, max(int(steps.max()), 1)))[0]
    canvas.histogram(counts.tolist(), x=EDGE, y=canvas.y, wide=WIDTH - 2 * EDGE, tall=60)
    canvas.y += 66
    canvas.text("0 steps", y=canvas.y, size=12, colour=SOFT)
    canvas.text(f"{steps.max():,}", x=WIDTH - EDGE - 40, y=canvas.y, size=12, colour=SOFT)
    canvas.y += 18


def _findings(canvas: Canvas, found: Sequence[Finding]) -> None:
    canvas.heading("Findings, worst first")
    if not found:
        canvas.text("Nothing was found that is wrong, which is no proof.", colour=SOFT)
    for one in found[:_FOUND]:
        x = EDGE + 10 + canvas.text(one.level, y=canvas.y, size=14, colour=_LEVELS[one.level])
        canvas.text(f"{one.code}: {cut(one.message, 200)}", x=x, size=14)
    if len(found) > _FOUND:
        canvas.text(f"and {len(found) - _FOUND} more on the page", size=14, colour=MAIN)
