"""Whether a dataset's steps per second are what it says of itself.

A rate is evident from, in this order:

- the feature that `Entry.time` names; else one called ``timestamp``, ``observation.timestamp``, ``time`` or
  ``observation.time``, if it is of growing floating-point numbers: seconds. The rate is that of the median step
- the ``control_rate`` of the actions' convention, declared or stored with the dataset
- ``control_freq``, ``control_hz`` or ``control_rate`` in ``meta.episode_metadata``

Two per cent of difference are one rate. Nothing is corrected: `Entry.fps` does that.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vla_data.core import Episode, Schema
from vla_data.mixtures.config import Entry
from vla_data.mixtures.track import action_convention

TOLERANCE: Final = 0.02
TIMES: Final = ("timestamp", "observation.timestamp", "time", "observation.time")
"""Features that may be the recorded times."""

_FACTS: Final = ("control_freq", "control_hz", "control_rate")


def evidence(episode: Episode, schema: Schema, entry: Entry) -> dict[str, float]:
    """What says so -> steps per second."""
    found: dict[str, float] = {}
    for name in (entry.time,) if entry.time else TIMES:
        values = np.asarray(episode.arrays.get(name, ()))
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1 or values.dtype.kind != "f" or len(values) < 3:
            continue
        steps = np.diff(values.astype(np.float64))
        if np.isfinite(steps).all() and (steps > 0).all():
            found[f"recorded times ({name})"] = float(1 / np.median(steps))
            break
    convention = action_convention(schema, entry)
    if convention is not None and convention.control_rate is not None:
        found["the convention of its actions"] = convention.control_rate
    facts = episode.meta.episode_metadata or {}
    for name in _FACTS:
        value = facts.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            found[f"its metadata ({name})"] = float(value)
    return found


def contradicts(fps: float, rate: float) -> bool:
    """Whether these are two rates."""
    return abs(rate / fps - 1) > TOLERANCE
