"""LeRobot's ``meta/stats.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from vla_data.core import Json
from vla_data.statistics.blocks import only
from vla_data.statistics.collect import Summary
from vla_data.statistics.columns import Columns
from vla_data.statistics.trainers import BaseWriter
from vla_data.statistics.vectors import describe


@dataclass(frozen=True, kw_only=True)
class Lerobot(BaseWriter):
    """Every feature of numbers, with min, max, mean, std, count and the quantiles of v3.0.

    Attributes:
        images: statistics of images to add as they are, feature -> its entry: no image is decoded here.
    """

    keyed: ClassVar[bool] = False
    indent: ClassVar[int | None] = 4
    file: ClassVar[str] = "stats.json"

    images: Mapping[str, Json] | None = None

    @property
    def names(self) -> None:
        """All."""
        return None

    def rows(self, arrays: Columns) -> Columns:
        """Every step."""
        return arrays

    def entry(self, summary: Summary, name: str) -> dict[str, Json]:
        """Features by name."""
        out = {key: describe(stats) for key, stats in summary.features.items()} | dict(self.images or {})
        return dict(sorted(out.items()))

    def document(self, entries: Mapping[str, dict[str, Json]]) -> dict[str, Json]:
        """The only entry."""
        return only(entries)
