"""Values, advantages and thresholds of a dataset's annotations, task by task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from vla_data.core import Array
from vla_data.core.findings import Section
from vla_data.errors import VlaDataError
from vla_data.report.charts import histogram
from vla_data.report.page import sentence, table
from vla_data.report.valued import valued
from vla_data.report.words import cut, escaped

_TAGS: Final = "meta/vla_data/advantages"
_MOST: Final = 3
_TASKS: Final = 20
_BARS: Final = 48
_HEAD: Final = ("task", "frames", "value", "advantage q05", "median", "q95", "positive", "threshold")


def advantages(root: Path | None) -> str:
    """A part for each of the first annotations of a LeRobot dataset; nothing where there are none.

    Args:
        root: the dataset on this machine; None for anything else.
    """
    files = sorted(root.glob(f"{_TAGS}/*.parquet")) if root is not None else []
    out = [_annotation(root, file.stem) for file in files[:_MOST] if root is not None]
    if len(files) > _MOST:
        out.append(sentence(f"And {len(files) - _MOST:,} other annotations."))
    return "".join(out)


def _annotation(root: Path, tag: str) -> str:
    from vla_data.advantages.annotation import read_annotation  # loads pyarrow
    from vla_data.advantages.frame_table import FrameTable

    head = f"<h3>{escaped(tag)}</h3>"
    try:
        frames = FrameTable.read(root)
        made = read_annotation(frames, tag)
    except VlaDataError as error:
        return head + sentence(f"It can't be shown: {error}.")
    epsilons = made.epsilons(frames)
    names, of = np.unique(frames.task, return_inverse=True)
    rows = [
        _row(
            cut(frames.tasks.get(int(name), name), 200),
            *(
                None if x is None else x[of.ravel() == at]
                for x in (made.values, made.advantages, made.positive, epsilons)
            ),
        )
        for at, name in enumerate(names[:_TASKS])
    ]
    if len(names) > 1:
        rows.append(_row("all", made.values, made.advantages, made.positive, epsilons))
    more = sentence(f"And {len(names) - _TASKS:,} other tasks.") if len(names) > _TASKS else ""
    listed = Section(head=_HEAD, rows=tuple(rows), right=frozenset(range(1, 8)))
    cards = "".join(_card(what, x) for what, x in (("value", made.values), ("advantage", made.advantages)))
    listing = table(listed, f"values and advantages of {tag}")
    return head + listing + f"<div class=grid>{cards}</div>" + more + valued(frames, made)


def _row(
    name: str, values: Array | None, found: Array | None, positive: Array | None, epsilons: Array | None
) -> tuple[str, ...]:
    if values is None or found is None:
        return (name,)
    low, middle, high = np.quantile(found, [0.05, 0.5, 0.95])
    share = "no labels" if positive is None else f"{positive.mean():.1%}"
    return (
        name,
        f"{len(values):,}",
        f"{values.mean():.4g}",
        *(f"{x:.4g}" for x in (low, middle, high)),
        share,
        "; ".join(_thresholds(epsilons)),
    )


def _thresholds(epsilons: Array | None) -> Iterator[str]:
    if epsilons is not None:
        low, high = float(epsilons.min()), float(epsilons.max())
        yield f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def _card(name: str, numbers: Array) -> str:
    low, high = float(numbers.min()), float(numbers.max())
    counts = np.histogram(numbers, bins=_BARS, range=(low, high if high > low else low + 1))[0]
    picture = histogram(
        (counts / len(numbers)).tolist(), label=f"{name}s of {len(numbers):,} frames, {low:.4g} to {high:.4g}"
    )
    return f"<figure class=card><figcaption>{name}, {low:.4g} to {high:.4g}</figcaption>{picture}</figure>"
