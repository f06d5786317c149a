"""OpenVLA's ``dataset_statistics.json`` (`prismatic/vla/datasets/rlds/utils/data_utils.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vla_data.core import Json
from vla_data.core.findings import Finding
from vla_data.statistics.blocks import as_vectors, block, mask_of, only
from vla_data.statistics.collect import Summary
from vla_data.statistics.columns import Columns
from vla_data.statistics.health import judged
from vla_data.statistics.trainers import BaseWriter


@dataclass(frozen=True, kw_only=True)
class Openvla(BaseWriter):
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

    def judge(self, summary: Summary) -> list[Finding]:
        """Also what the loader makes of constants that the mask keeps; zeros in place of a state are none."""
        out = judged(summary, () if self.state is not None else ("proprio",))
        if not self.action_mask:
            return out
        stats = summary.features["action"]
        pairs = zip(stats.min == stats.max, self.action_mask, strict=True)
        which = tuple(i for i, (constant, masked) in enumerate(pairs) if constant and not masked)
        text = f"action {list(which)}: OpenVLA's loader makes a constant 0, although the mask says to keep it"
        zeroed = Finding(where="action", code="masked_constant", elements=which, message=text)
        return [*out, zeroed] if which else out
