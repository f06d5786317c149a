"""GR00T's ``meta/stats.json`` and ``meta/relative_stats.json`` (`gr00t/data/stats.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from vla_data.core import Json
from vla_data.errors import DataError, UsageError
from vla_data.statistics.blocks import as_vectors, only
from vla_data.statistics.chunks import whole_chunks
from vla_data.statistics.collect import Summary
from vla_data.statistics.columns import Columns
from vla_data.statistics.trainers import BaseWriter, Subtracted
from vla_data.statistics.vectors import Described

Range = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Gr00t(BaseWriter):
    """Every feature of floats, or with ``relative`` the joint actions that are predicted relative to the state.

    Attributes:
        relative: groups of ``meta/modality.json`` whose actions are relative; each step of the horizon has
            statistics of its own, over the chunks that do not reach beyond the end.
        action_horizon: actions in a chunk; needed with ``relative``.
        groups: group -> (its state's, its action's) half-open range of elements.
        columns: group -> (its state's, its action's) array, where they are others than the next two.
        action: name of the array of actions.
        state: of the state.
    """

    keyed: ClassVar[bool] = False
    indent: ClassVar[int | None] = 4

    relative: tuple[str, ...] = ()
    action_horizon: int | None = None
    groups: Mapping[str, tuple[Range, Range]] = field(default_factory=dict)
    columns: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    action: str = "action"
    state: str = "observation.state"

    def __post_init__(self) -> None:
        if bool(self.relative) != (self.action_horizon is not None):
            raise UsageError("E001", "GR00T's relative actions need both --relative and --action-horizon")
        missing = [name for name in self.relative if name not in self.groups]
        if missing:
            known = ", ".join(self.groups) or "none"
            raise UsageError(
                "E001",
                f"{missing[0]!r} is not a group of state and action in meta/modality.json (known are {known})",
            )

    @property
    def file(self) -> str:
        """``stats.json``, or ``relative_stats.json``."""
        return "relative_stats.json" if self.relative else "stats.json"

    @property
    def names(self) -> tuple[str, ...] | None:
        """All, or the arrays of actions and states."""
        found = dict.fromkeys(name for group in self.relative for name in reversed(self._columns(group)))
        return tuple(found) if self.relative else None

    @property
    def subtracted(self) -> Sequence[Subtracted]:
        """See `vla_data.statistics.trainers.Writer`."""
        out = []
        for name in self.relative:
            (state, action), (at, place) = self._columns(name), self.groups[name]
            out.append((action, state, tuple(zip(range(*place), range(*at), strict=False))))
        return out

    def rows(self, arrays: Columns) -> Columns:
        """Every step of the floats, or each whole chunk as one row of ``H * D`` elements.

        Raises:
            DataError: E203 where a group is not there, E207 where an episode has no whole chunk.
        """
        if self.action_horizon is None:
            return {name: array for name, array in arrays.items() if array.dtype.kind == "f"}
        out = {}
        for name in self.relative:
            of_state, of_action = self.groups[name]
            states, actions = (as_vectors(arrays[column], column) for column in self._columns(name))
            if of_action[1] > actions.shape[1] or of_state[1] > states.shape[1]:
                raise DataError("E203", f"group {name} reaches beyond the action or the state")
            if len(actions) < self.action_horizon:
                raise DataError(
                    "E207", f"the episode has {len(actions)} steps, fewer than a chunk of {self.action_horizon}"
                )
            chunks = whole_chunks(actions[:, slice(*of_action)], self.action_horizon, states[:, slice(*of_state)])
            # GR00T keeps them so.
            out[name] = chunks.astype(np.float32).reshape(len(chunks), self.action_horizon * chunks.shape[2])
        return out

    def _columns(self, group: str) -> tuple[str, str]:
        return self.columns.get(group, (self.state, self.action))

    def entry(self, summary: Summary, name: str) -> dict[str, Json]:
        """Features, or groups with lists of ``H`` lists, by name."""
        if self.action_horizon is None:
            return {key: _block(stats, None) for key, stats in summary.features.items()}
        return {key: _block(stats, self.action_horizon) for key, stats in summary.features.items()}

    def document(self, entries: Mapping[str, dict[str, Json]]) -> dict[str, Json]:
        """The only entry."""
        return only(entries)


def _block(stats: Described, horizon: int | None) -> dict[str, Json]:
    q01, q99 = stats.quantiles([0.01, 0.99])
    values = {"mean": stats.mean, "std": stats.std, "min": stats.min, "max": stats.max, "q01": q01, "q99": q99}
    if horizon is not None:
        values = {key: row.reshape(horizon, -1) for key, row in values.items()}
    return {key: row.tolist() for key, row in values.items()}
