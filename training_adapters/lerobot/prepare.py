"""What lerobot needs beside its code: the dataset, which has its statistics in it, and the command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vla_data.preparing import Extras, Prepared

FORMAT: Final = "lerobot"
NEEDS_GATE: Final = False
STATE: Final = "observation.state"


def sink_options(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """See `vla_data.preparing.job.Preparation`."""
    del name
    return given


def place(name: str) -> str:
    """See `vla_data.preparing.job.Preparation`."""
    return name


def extras(prepared: Prepared) -> Extras:
    """See `vla_data.preparing.job.Preparation`."""
    prepared.feature("action")
    facts = ["meta/stats.json of the dataset is what lerobot normalises by; --policy.type=smolvla and others too"]
    if STATE not in prepared.schema.features:
        facts.append(
            f"lerobot's policies read {STATE}, which the dataset does not have: record it, or --rename X={STATE}"
        )
    return Extras(
        files={},
        command=[
            f"lerobot-train --dataset.repo_id=local/{prepared.name} "
            f"--dataset.root={prepared.word(place(prepared.name))} "
            f"--policy.type=act --policy.push_to_hub=false --output_dir={prepared.word('train')}",
        ],
        facts=facts,
    )
