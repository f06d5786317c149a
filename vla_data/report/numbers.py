"""Every number of actions, states and the rest: how it is spread, in its declared unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from vla_data.core import Array
from vla_data.report.charts import histogram
from vla_data.report.elements import labels, units
from vla_data.report.looked import WIDEST, Looked
from vla_data.report.page import sentence
from vla_data.report.words import escaped

_BARS: Final = 32
_CARDS: Final = 400
_ROWS: Final = ("min", "q01", "mean", "q99", "max", "std")


def numbers(looked: Looked, values: Mapping[str, Array], beside: Looked | None = None) -> str:
    """A card a number, actions first.

    Args:
        looked: what was read.
        values: feature -> ``(N, width)`` of all steps.
        beside: another dataset. A feature that both have in the same units is drawn over the same axis, any other
            one by itself.
    """
    others = {} if beside is None else beside.numbers()
    out: list[str] = []
    room = _CARDS
    for name in sorted(values.keys() | others.keys(), key=lambda name: (not name.startswith("action"), name)):
        mine, theirs = values.get(name), others.get(name)
        one = mine is not None and theirs is not None and _told(looked, name) == _told(beside, name)
        for which, table, second, note in (
            (looked, mine, theirs if one else None, ""),
            (beside, None if one else theirs, None, " of the other dataset"),
        ):
            if table is None or which is None:
                continue
            room -= table.shape[1]
            if room < 0:
                return "".join([*out, sentence("There are more numbers than this page shows.")])
            out.append(_feature(name, note, which, table, second))
    if looked.wide:
        out.append(sentence(f"Not drawn, with over {WIDEST} numbers a step: {len(looked.wide)} features."))
    if beside is not None and out:
        out.append(
            sentence(
                "Bars are of the dataset; the line, and the second figures, are of the other one. What the two "
                "have in different units is drawn apart."
            )
        )
    return "".join(out)


def _told(looked: Looked | None, name: str) -> list[str]:
    """The units of a feature, and so how many numbers it has."""
    if looked is None or looked.schema is None:
        return []
    return units(looked.schema.features[name], looked.convention(name))


def _feature(name: str, note: str, looked: Looked, table: Array, other: Array | None) -> str:
    feature = looked.schema.features[name] if looked.schema is not None else None
    if feature is None:
        return ""
    cards = [
        _card(label, unit, table[:, i], None if other is None else other[:, i])
        for i, (label, unit) in enumerate(zip(labels(feature), _told(looked, name), strict=True))
    ]
    steps = f"{len(table):,} steps" + ("" if other is None else f", beside {len(other):,}")
    return (
        f"<h3>{escaped(name)}{note}</h3><p class=soft>{escaped(feature.dtype)}, {steps}</p>"
        f"<div class=grid>{''.join(cards)}</div>"
    )


def _card(label: str, unit: str, column: Array, other: Array | None) -> str:
    mine = column.astype(np.float64)
    theirs = None if other is None else other.astype(np.float64)
    both = mine if theirs is None else np.concatenate([mine, theirs])
    edges = edges_of(float(both.min()), float(both.max()))
    columns = [_described(one) for one in (mine, theirs) if one is not None]
    told = "".join(
        f"<dt>{key}</dt>{''.join(f'<dd>{value}</dd>' for value in row)}"
        for key, row in zip(_ROWS, zip(*columns, strict=True), strict=True)
    )
    kind = "" if theirs is None else " class=pair"
    picture = histogram(
        heights_of(mine, edges),
        label=f"how {label or 'it'} is spread, {edges[0]:.4g} to {edges[-1]:.4g}",
        other=() if theirs is None else heights_of(theirs, edges),
    )
    name = f"<b>{escaped(label)}</b> " if label else ""
    return (
        f"<figure class=card><figcaption>{name}{escaped(unit)}</figcaption>{picture}<dl{kind}>{told}</dl></figure>"
    )


def edges_of(low: float, high: float) -> Array:
    """Of the bars; one value has a bar in the middle. Values too close for so many bars are not told apart."""
    wide = max(high - low, max(abs(low), abs(high)) * 1e-9, 1e-12)
    middle = (low + high) / 2
    return np.linspace(min(low, middle - wide / 2), max(high, middle + wide / 2), _BARS + 1)


def heights_of(values: Array, edges: Array) -> list[float]:
    """The share of ``(N,)`` values in each bar between `edges_of`."""
    at = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, _BARS - 1)
    heights: list[float] = (np.bincount(at, minlength=_BARS) / max(len(values), 1)).tolist()
    return heights


def _described(values: Array) -> list[str]:
    q01, q99 = np.quantile(values, [0.01, 0.99])
    return [f"{x:.3g}" for x in (values.min(), q01, values.mean(), q99, values.max(), values.std())]
