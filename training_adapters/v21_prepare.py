"""What trainers share that read LeRobot v2.1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

FORMAT: Final = "lerobot"


def sink_options(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """See `vla_data.preparing.job.Preparation`."""
    del name
    return {**given, "version": "v2.1"}


def place(name: str) -> str:
    """See `vla_data.preparing.job.Preparation`."""
    return name
