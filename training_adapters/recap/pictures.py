"""An annotation as a picture (SVG): how advantages are spread, and values and advantages along episodes."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vla_data.advantages.annotation import Annotation
from vla_data.advantages.frame_table import FrameTable

Floats = NDArray[np.float64]

_WIDTH, _LEFT, _HIGH, _LOW = 900, 60, 170, 110
_BARS: Final = 60
_VALUE, _ADVANTAGE, _GOOD, _REST = "#3366aa", "#888888", "#2a8a3a", "#c8c8c8"


def picture(annotation: Annotation, table: FrameTable, solved: NDArray[np.bool_], *, episodes: int = 2) -> str:
    """The drawing.

    Args:
        annotation: with or without labels.
        table: its frames.
        solved: ``(E,)`` how episodes ended.
        episodes: that are shown of each end, the first ones.
    """
    shown = [int(at) for good in (True, False) for at in np.flatnonzero(solved == good)[:episodes]]
    parts = [_histogram(annotation, table)]
    top = _HIGH + 50
    for at in shown:
        rows = slice(int(table.episodes.starts[at]), int(table.episodes.ends[at]))
        task = table.tasks[int(table.task[rows.start])]
        title = f"episode {int(table.numbers[at])}, {task}: {'solved' if solved[at] else 'not solved'}"
        positive = None if annotation.positive is None else annotation.positive[rows]
        parts.append(_episode(title, annotation.values[rows], annotation.advantages[rows], positive, top))
        top += _LOW + 50
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" font-family="sans-serif"'
        f' font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _histogram(annotation: Annotation, table: FrameTable) -> str:
    """Bars of advantages, those of positive frames in green, and the bounds of tasks."""
    values = annotation.advantages
    counts, edges = np.histogram(values, bins=_BARS)
    good = np.zeros(len(values), dtype=np.bool_) if annotation.positive is None else annotation.positive
    goods, _ = np.histogram(values[good], bins=edges)
    across = _scale(edges[0], edges[-1], _LEFT, _WIDTH - 20)
    up = _scale(0, max(int(counts.max(initial=1)), 1), _HIGH, 30)
    out = [_text(_LEFT, 18, f"advantages of {len(values):,} frames ({annotation.tag}); green: positive")]
    for low, high, count, positive in zip(edges[:-1], edges[1:], counts, goods, strict=True):
        for number, colour in ((int(count), _REST), (int(positive), _GOOD)):
            box = f'x="{across(low):.1f}" y="{up(number):.1f}" width="{across(high) - across(low) - 0.5:.1f}"'
            out.append(f'<rect {box} height="{_HIGH - up(number):.1f}" fill="{colour}"/>')
    bounds = annotation.epsilons(table)
    for bound in [] if bounds is None else sorted({float(one) for one in bounds}):
        out.append(_line([(across(bound), 26), (across(bound), _HIGH)], "#aa3333", dashed=True))
    for edge in (edges[0], 0.0, edges[-1]):
        if edges[0] <= edge <= edges[-1]:
            out.append(_text(across(edge) - 12, _HIGH + 15, f"{edge:.2f}"))
    return "".join(out)


def _episode(title: str, value: Floats, advantage: Floats, positive: NDArray[np.bool_] | None, top: int) -> str:
    """Two curves over the steps; frames above the bound have a dot."""
    low, high = min(float(value.min()), float(advantage.min())), max(0.0, float(advantage.max()))
    across = _scale(0, max(len(value) - 1, 1), _LEFT, _WIDTH - 20)
    up = _scale(low, high if high > low else low + 1.0, top + _LOW, top + 10)
    out = [_text(_LEFT, top, f"{title}; blue: value, grey: advantage")]
    out.append(_line([(_LEFT, up(0.0)), (_WIDTH - 20, up(0.0))], "#dddddd"))
    for curve, colour in ((value, _VALUE), (advantage, _ADVANTAGE)):
        out.append(_line([(across(step), up(float(one))) for step, one in enumerate(curve)], colour))
    for step in [] if positive is None else np.flatnonzero(positive).tolist():
        place = f'cx="{across(step):.1f}" cy="{up(float(advantage[step])):.1f}"'
        out.append(f'<circle {place} r="3" fill="{_GOOD}"/>')
    out += [_text(4, up(edge) + 4, f"{edge:.2f}") for edge in (low, high)]
    return "".join(out)


def _scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    """From numbers to places."""
    step = (last - first) / ((high - low) or 1.0)
    return lambda number: float(first + (number - low) * step)


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}">{html.escape(text)}</text>'


def _line(points: Sequence[tuple[float, float]], colour: str, *, dashed: bool = False) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>'
