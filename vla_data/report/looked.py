"""What a report keeps of the episodes that are read: their measures, all their numbers, some pictures."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from vla_data.actions import Convention
from vla_data.core import Array, Episode, Feature, Schema
from vla_data.errors import DataError
from vla_data.measuring.gauge import Gauge
from vla_data.measuring.row import Row
from vla_data.report.strips import MOST_BYTES, Strip, strips_of
from vla_data.statistics.health import is_judged
from vla_data.statistics.vectors import LARGEST

WIDEST: Final = 64
"""Features with more numbers a step are named, and not drawn."""
_PICTURED: Final = 6


@dataclass
class Looked:
    """Collects episodes; `measured` and `numbers` are asked for when all were seen."""

    pictured: int = _PICTURED
    strips: list[Strip] = field(default_factory=list)
    undecoded: list[str] = field(default_factory=list)
    wide: set[str] = field(default_factory=set)
    gauge: Gauge = field(default_factory=Gauge)
    _values: dict[str, list[Array]] = field(default_factory=lambda: defaultdict(list))

    def see(self, place: int, of: int, schema: Schema, episode: Episode) -> None:
        """One more episode, number ``place`` of ``of``."""
        self.gauge.see(place, schema, episode)
        features = self.schema.features if self.schema is not None else {}
        for name, feature in features.items():
            array = episode.arrays.get(name)
            if array is None or array.dtype.kind not in "fiu" or not is_judged(name) or not len(array):
                continue
            if width_of(feature) > WIDEST:
                self.wide.add(name)
            elif array[0].size == width_of(feature):
                self._values[name].append(array.reshape(len(array), -1))
        if place in set(np.linspace(0, of - 1, min(of, self.pictured)).round().astype(int)):
            self.picture(episode)

    def picture(self, episode: Episode, note: str = "") -> None:
        """Strips of an episode, as long as there is room."""
        try:
            made = strips_of(episode, note)
        except DataError as error:
            self.undecoded.append(f"{episode.id}: {error.code} {error.message}")
            return
        if sum(strip.nbytes for strip in [*self.strips, *made]) <= MOST_BYTES:
            self.strips += made

    def numbers(self) -> dict[str, Array]:
        """Feature -> ``(N, width)`` of all steps that were read, rows that are not finite left out."""
        out = {}
        for name, parts in self._values.items():
            table = np.concatenate(parts)
            fine = np.isfinite(table).all(axis=1) & (np.abs(table.astype(np.float64)) <= LARGEST).all(axis=1)
            if fine.any():
                out[name] = table[fine]
        return out

    def not_finite(self) -> dict[str, int]:
        """Feature -> rows with a number that is not finite, where there are any."""
        counts = {
            name: sum(int((~np.isfinite(part)).any(axis=1).sum()) for part in parts)
            for name, parts in self._values.items()
        }
        return {name: count for name, count in counts.items() if count}

    @property
    def schema(self) -> Schema | None:
        """Of the first episode."""
        return self.gauge.schema

    def convention(self, name: str) -> Convention | None:
        """Of a feature; None where it has none, or one that can't be read."""
        return self.gauge.convention(name)

    def measured(self) -> list[Row]:
        """Every episode that was read."""
        return self.gauge.rows()


def width_of(feature: Feature) -> int:
    """Numbers of a step."""
    return int(np.prod(feature.shape, dtype=np.int64))
