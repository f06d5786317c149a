"""OpenVLA's ``dataset_statistics.json`` (`prismatic/vla/datasets/rlds/utils/data_utils.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vla_data.core import Array, Json
from vla_data.errors import DataError, UsageError
from vla_data.statistics.collect import Summary
from vla_data.statistics.columns import Columns
from vla_data.statistics.vectors import Described


@dataclass(frozen=True, kw_only=True)
class Openvla:
    """An entry for each dataset, as a run saves it and a checkpoint's ``norm_stats`` has it.

    Attributes:
        action: name of the array of actions.
        state: of the proprioception; None: zeros like the actions, which is what OpenVLA writes without one.
        action_mask: which elements of an action are normalised; empty: the file has no mask, which OpenVLA reads
            as all of them.
        flat: the one entry without its name: what the loader caches as ``dataset_statistics_<hash>.json``, and
            takes as the path ``dataset_statistics``.
    """

    keyed: ClassVar[bool] = True
    indent: ClassVar[int | None] = 2
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
        else:
            out["proprio"] = np.zeros_like(out["action"], dtype=np.float32)
        return out

    def entry(self, summary: Summary, name: str) -> dict[str, Json]:
        """``action``, ``proprio``, ``num_transitions`` and ``num_trajectories``."""
        parts = {key: block(summary.features[key], {"q01": 0.01, "q99": 0.99}) for key in ("action", "proprio")}
        parts["action"] |= mask_of(self.action_mask, summary.features["action"])
        return {**parts, "num_transitions": summary.steps, "num_trajectories": summary.episodes}

    def document(self, entries: Mapping[str, dict[str, Json]]) -> dict[str, Json]:
        """Entries by name, or the only one."""
        return only(entries) if self.flat else dict(entries)


def block(stats: Described, quantiles: Mapping[str, float]) -> dict[str, Json]:
    """mean, std, max, min and the quantiles, name -> level."""
    out = {key: getattr(stats, key).tolist() for key in ("mean", "std", "max", "min")}
    return out | dict(zip(quantiles, stats.quantiles(list(quantiles.values())).tolist(), strict=True))


def mask_of(mask: tuple[bool, ...], stats: Described) -> dict[str, Json]:
    """``{"mask": [...]}``, or nothing.

    Raises:
        UsageError: E001, it is not as long as an action.
    """
    if mask and len(mask) != len(stats.mean):
        raise UsageError("E001", f"the mask has {len(mask)} elements, an action {len(stats.mean)}")
    return {"mask": list(mask)} if mask else {}


def only(entries: Mapping[str, dict[str, Json]]) -> dict[str, Json]:
    """The entry of the only dataset.

    Raises:
        UsageError: E001, there are several.
    """
    if len(entries) != 1:
        raise UsageError("E001", f"one dataset fits into this file, not {len(entries)}")
    return next(iter(entries.values()))


def as_vectors(array: Array, name: str) -> Array:
    """``(T, D)``; a plain number a step is a vector of one.

    Raises:
        DataError: E203 for anything with more axes.
    """
    if array.ndim > 2:
        raise DataError("E203", f"{name} has the shape {array.shape[1:]} a step, which is no vector")
    return array.reshape(len(array), -1) if len(array) else array.reshape(0, *(array.shape[1:] or (1,)))
