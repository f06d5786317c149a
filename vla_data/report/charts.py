"""Small pictures of numbers as inline SVG, coloured by the page's classes; every text in them is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vla_data.report.words import escaped

_WIDTH: Final = 200
_HEIGHT: Final = 44
_ROW: Final = 14
_LABELS: Final = 130
_LINE: Final = 640
_TALL: Final = 90
_COLUMNS: Final = 320


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of a whole: ``kind`` is the class that colours it."""

    name: str
    count: int
    kind: str


def histogram(heights: Sequence[float], *, label: str, other: Sequence[float] = ()) -> str:
    """Bars of equal width, the highest as high as the picture.

    Args:
        heights: shares of all values, one a bar.
        label: what a screen reader says.
        other: of another dataset over the same bars, drawn as a line of steps.
    """
    top = max([*heights, *other, 1e-12])
    step = _WIDTH / max(len(heights), 1)
    bars = [
        f'<rect x="{i * step:.1f}" y="{_HEIGHT - _tall(h, top):.1f}" width="{step * 0.9:.1f}" '
        f'height="{_tall(h, top):.1f}"/>'
        for i, h in enumerate(heights)
        if h > 0
    ]
    line = ""
    if other:
        points = [
            f"{x:.1f},{_HEIGHT - _tall(h, top):.1f}"
            for i, h in enumerate(other)
            for x in (i * step, (i + 1) * step)
        ]
        line = f'<polyline class="other" points="{" ".join(points)}"/>'
    return _svg(_WIDTH, _HEIGHT + 1, label, "".join(bars) + line, kind="histogram")


def bar(shares: Sequence[Share], *, label: str) -> str:
    """Parts of a whole side by side in one bar."""
    whole = sum(share.count for share in shares)
    at, parts = 0.0, []
    for share in shares:
        width = _LINE * share.count / whole if whole else 0.0
        if width:
            title = f"<title>{escaped(share.name)}: {share.count:,}</title>"
            parts.append(
                f'<rect class="{share.kind}" x="{at:.1f}" y="0" width="{width:.1f}" height="26">{title}</rect>'
            )
        at += width
    return _svg(_LINE, 26, label, "".join(parts), kind="flow", stretched=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """An episode on a timeline: its length and the steps at which something happened."""

    name: str
    length: int
    steps: Sequence[int]


def timeline(tracks: Sequence[Track], *, label: str) -> str:
    """A line an episode, as long as it is, with a mark at each of its steps."""
    longest = max((track.length for track in tracks), default=1)
    wide = _LINE - _LABELS
    parts = []
    for number, track in enumerate(tracks):
        y = number * _ROW + _ROW / 2
        name = track.name if len(track.name) <= 20 else "…" + track.name[-19:]
        parts.append(f'<text x="0" y="{y + 3.5:.1f}">{escaped(name)}</text>')
        parts.append(
            f'<line x1="{_LABELS}" x2="{_LABELS + wide * track.length / longest:.1f}" y1="{y}" y2="{y}"/>'
        )
        parts += [
            f'<rect x="{_LABELS + wide * step / longest:.1f}" y="{y - 4:.1f}" width="2" height="8">'
            f"<title>step {step}</title></rect>"
            for step in track.steps
        ]
    return _svg(_LINE, max(len(tracks), 1) * _ROW, label, "".join(parts), kind="timeline")


def curves(values: Sequence[float], bars: Sequence[float], marks: Sequence[int], *, label: str) -> str:
    """Values as a line and bars from zero, of the same steps and on one scale that includes zero; marks below.

    Of more than 320 steps, neighbours are drawn as one, by their means; it is marked where one of them is.
    """
    together = -(-len(values) // _COLUMNS)
    lines, bars = (_means(numbers, together) for numbers in (values, bars))
    marked = sorted({at // together for at in marks})
    low, high = (reach([*lines, *bars, 0.0]) for reach in (min, max))
    span = (high - low) or 1.0
    step = _LINE / max(len(lines), 1)
    zero = _TALL + low / span * _TALL
    drawn = "".join(
        f'<rect x="{i * step + step * 0.1:.1f}" y="{min(zero, zero - bar / span * _TALL):.1f}" '
        f'width="{step * 0.8:.1f}" height="{abs(bar) / span * _TALL:.1f}">'
        f"<title>step {i * together}: {bar:.4g}</title></rect>"
        for i, bar in enumerate(bars)
    )
    points = " ".join(
        f"{(i + 0.5) * step:.1f},{_TALL - (value - low) / span * _TALL:.1f}" for i, value in enumerate(lines)
    )
    below = "".join(
        f'<rect class="kept" x="{i * step:.1f}" y="{_TALL + 3}" width="{step:.1f}" height="5">'
        f"<title>step {i * together}: positive</title></rect>"
        for i in marked
    )
    ground = f'<line x1="0" x2="{_LINE}" y1="{zero:.1f}" y2="{zero:.1f}"/>'
    body = f'{ground}{drawn}<polyline class="other" points="{points}"/>{below}'
    return _svg(_LINE, _TALL + 9, label, body, kind="curves")


def _means(numbers: Sequence[float], together: int) -> list[float]:
    parts = [numbers[at : at + together] for at in range(0, len(numbers), max(together, 1))]
    return [sum(part) / len(part) for part in parts]


def _tall(height: float, top: float) -> float:
    return 0.0 if height <= 0 else max(height / top * _HEIGHT, 1.0)  # what is there is seen


def _svg(width: int, height: int, label: str, body: str, *, kind: str, stretched: bool = False) -> str:
    more = ' preserveAspectRatio="none"' if stretched else ""
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escaped(label)}"{more}>'
        f"{body}</svg>"
    )
