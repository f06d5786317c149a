"""OpenVLA's ``dataset_statistics.json`` (`prismatic/vla/datasets/rlds/utils/data_utils.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from training_adapters.dataset_statistics import DatasetStatistics
from vla_data.core import Json
from vla_data.core.findings import Finding
from vla_data.statistics.collect import Summary
from vla_data.statistics.columns import Columns
from vla_data.statistics.health import judged


@dataclass(frozen=True, kw_only=True)
class Openvla(DatasetStatistics):
    """An entry for each dataset, as a run saves it and a checkpoint's ``norm_stats`` has it.

    Without ``state``, ``proprio`` is of zeros like the actions, which is what OpenVLA writes then. The ``flat``
    form is what the loader caches as ``dataset_statistics_<hash>.json``, and takes as the path
    ``dataset_statistics``.
    """

    indent: ClassVar[int | None] = 2

    def rows(self, arrays: Columns) -> Columns:
        """Every step."""
        out = dict(super().rows(arrays))
        out.setdefault("proprio", np.zeros_like(out["action"], dtype=np.float32))
        return out

    def entry(self, summary: Summary, name: str) -> dict[str, Json]:
        """``action``, ``proprio``, ``num_transitions`` and ``num_trajectories``."""
        return {**self.parts(summary, {"q01": 0.01, "q99": 0.99}), **self.counts(summary)}

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
