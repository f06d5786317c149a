"""Octo's dataset statistics (`octo/data/utils/data_utils.py`): quantiles are called p01 and p99."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from training_adapters.dataset_statistics import DatasetStatistics
from vla_data.core import Json
from vla_data.statistics.collect import Summary


@dataclass(frozen=True, kw_only=True)
class Octo(DatasetStatistics):
    """An entry for each dataset, as ``dataset_statistics.json`` of a checkpoint of a mixture has them.

    Without ``state`` the file has no ``proprio``. The ``flat`` form is what the loader caches and
    ``dataset_statistics=PATH`` takes, and what a checkpoint of one dataset holds.
    """

    indent: ClassVar[int | None] = None

    def entry(self, summary: Summary, name: str) -> dict[str, Json]:
        """``action``, ``num_transitions``, ``num_trajectories`` and, where there is a state, ``proprio``."""
        parts = self.parts(summary, {"p99": 0.99, "p01": 0.01})
        return {"action": parts.pop("action"), **self.counts(summary), **parts}
