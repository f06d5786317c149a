"""What OpenVLA and Octo share: an RLDS dataset with all step fields, below the folder that they are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vla_data.preparing import Prepared
from vla_data.statistics.make import Statistics, make
from vla_data.statistics.trainers import writer


def sink_options(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of the RLDS sink."""
    images = {key: value for key, value in given.items() if key == "images"}
    return {"name": name, "step_fields": "rlds", "float32": True, **images}


def place(name: str) -> str:
    """Where the dataset is, below the folder of everything, which is the trainers' ``data_dir``."""
    return f"{name}/1.0.0"


def statistics(prepared: Prepared, trainer: str) -> Statistics:
    """The trainer's own statistics file; the state is in it where there is one."""
    there = "observation.state" in prepared.schema.features
    state = {"state": "observation.state"} if there else {}
    return make({prepared.name: prepared.source}, writer(trainer, **state))
