"""What a report keeps of the episodes that are read: their measures, all their numbers, some pictures."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from vla_data.actions import Convention
from vla_data.core import Array, Episode, Schema
from vla_data.errors import DataError, UsageError
from vla_data.report import measures
from vla_data.report.measures import Measured
from vla_data.report.strips import MOST_BYTES, Strip, strips_of
from vla_data.statistics.health import is_judged
from vla_data.statistics.vectors import LARGEST

ACTION: Final = "action"
STATE: Final = "observation.state"
WIDEST: Final = 64
"""Features with more numbers a step are named, and not drawn."""
_PICTURED: Final = 6


@dataclass
class Looked:
    """Collects episodes; `measured` and `numbers` are asked for when all were seen."""

    pictured: int = _PICTURED
    schema: Schema | None = None
    strips: list[Strip] = field(default_factory=list)
    undecoded: list[str] = field(default_factory=list)
    wide: set[str] = field(default_factory=set)
    _facts: list[Measured] = field(default_factory=list)
    _values: dict[str, list[Array]] = field(default_factory=lambda: defaultdict(list))
    _actions: list[Array | None] = field(default_factory=list)
    _states: list[Array | None] = field(default_factory=list)

    def see(self, place: int, of: int, schema: Schema, episode: Episode) -> None:
        """One more episode, number ``place`` of ``of``."""
        self.schema = self.schema or schema
        success = episode.arrays.get("next.success")
        solved = None if success is None else bool(np.any(success))
        self._facts.append(
            Measured(
                id=episode.id,
                length=len(episode),
                solved=solved,
                task=episode.task,
                digest=measures.digest(episode),
                frozen=measures.frozen(episode),
            )
        )
        for name, feature in self.schema.features.items():
            array = episode.arrays.get(name)
            if array is None or array.dtype.kind not in "fiu" or not is_judged(name) or not len(array):
                continue
            if measures.width_of(feature) > WIDEST:
                self.wide.add(name)
            elif array[0].size == measures.width_of(feature):
                self._values[name].append(array.reshape(len(array), -1))
        self._actions.append(self._last(ACTION, episode))
        self._states.append(self._last(STATE, episode))
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

    def convention(self, name: str) -> Convention | None:
        """Of a feature; None where it has none, or one that can't be read."""
        feature = self.schema.features.get(name) if self.schema is not None else None
        try:
            return None if feature is None else Convention.from_json(feature.convention)
        except UsageError:
            return None

    def pairs(self) -> tuple[list[Array], list[Array]]:
        """Actions and states of the episodes that have both."""
        both = [
            (action, state)
            for action, state in zip(self._actions, self._states, strict=True)
            if action is not None and state is not None
        ]
        return [action for action, _ in both], [state for _, state in both]

    def measured(self) -> list[Measured]:
        """Every episode that was read."""
        convention = self.convention(ACTION)
        known = [action for action in self._actions if action is not None]
        same = convention is not None and known and len({action.shape[1] for action in known}) == 1
        spans = low = high = np.zeros(0)
        if same:
            table = np.concatenate(known).astype(np.float64)
            low, high = table.min(axis=0), table.max(axis=0)
            q01, q99 = np.quantile(table, [0.01, 0.99], axis=0)
            if convention is not None and convention.kind != "absolute":
                q01, q99 = np.minimum(q01, 0), np.maximum(q99, 0)
            spans = q99 - q01
        out = []
        for one, action in zip(self._facts, self._actions, strict=True):
            if same and action is not None and convention is not None:
                still = measures.idle_steps(action, convention, spans)
                at = measures.gripper_at(convention, action.shape[1])
                one = replace(
                    one,
                    idle=None if still is None else float(still.mean()),
                    outside=measures.outside_steps(action, convention),
                    switches=None
                    if at is None
                    else measures.switches(action[:, at], convention, float(low[at]), float(high[at])),
                )
            out.append(one)
        return out

    @staticmethod
    def _last(name: str, episode: Episode) -> Array | None:
        array = episode.arrays.get(name)
        if array is None or array.ndim != 2 or array.dtype.kind not in "fiu" or not len(array):
            return None
        return array if np.isfinite(array).all() else None
