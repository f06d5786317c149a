"""Octo's dataset statistics (`octo/data/utils/data_utils.py`): quantiles are called p01 and p99."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from vla_data.core import Json
from vla_data.statistics.blocks import as_vectors, block, mask_of, only
from vla_data.statistics.collect import Summary
from vla_data.statistics.columns import Columns
from vla_data.statistics.trainers import BaseWriter


@dataclass(frozen=True, kw_only=True)
class Octo(BaseWriter):
    """An entry for each dataset, as ``dataset_statistics.json`` of a checkpoint of a mixture has them.

    Attributes:
        action: name of the array of actions.
        state: of the proprioception; None: the file has no ``proprio``.
        action_mask: which elements of an action are normalised; empty: no mask, which Octo reads as all.
        flat: the one entry without its name: what the loader caches and ``dataset_statistics=PATH`` takes, and
            what a checkpoint of one dataset holds.
    """

    keyed: ClassVar[bool] = True
    indent: ClassVar[int | None] = None
    file: ClassVar[str] = "dataset_statistics.json"

    action: str = "action"
    state: str | None = None
    action_mask: tuple[bool, ...] = ()
    flat: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays of action and state."""
        return (self.action,) if self.state is None else (self.action, self.state)

    def rows(self, arrays: Columns) -> Columns:
        """Every step."""
        out = {"action": as_vectors(arrays[self.action], self.action)}
        if self.state is not None:
            out["proprio"] = as_vectors(arrays[self.state], self.state)
        return out

    def entry(self, summary: Summary, name: str) -> dict[str, Json]:
        """``action``, ``num_transitions``, ``num_trajectories`` and, where there is a state, ``proprio``."""
        parts = {key: block(stats, {"p99": 0.99, "p01": 0.01}) for key, stats in summary.features.items()}
        parts["action"] |= mask_of(self.action_mask, summary.features["action"])
        counts = {"num_transitions": summary.steps, "num_trajectories": summary.episodes}
        return {"action": parts.pop("action"), **counts, **parts}

    def document(self, entries: Mapping[str, dict[str, Json]]) -> dict[str, Json]:
        """Entries by name, or the only one."""
        return only(entries) if self.flat else dict(entries)
