"""What Octo needs beside its code: an RLDS dataset, ``dataset_kwargs`` of its configuration, its statistics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from training_adapters import rlds_prepare
from vla_data.preparing import Extras, Prepared

FORMAT: Final = "rlds"
NEEDS_GATE: Final = True


def sink_options(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """See `vla_data.preparing.job.Preparation`."""
    return rlds_prepare.sink_options(name, given)


def place(name: str) -> str:
    """See `vla_data.preparing.job.Preparation`."""
    return rlds_prepare.place(name)


def extras(prepared: Prepared) -> Extras:
    """See `vla_data.preparing.job.Preparation`."""
    entry = prepared.gate["config"]
    made = rlds_prepare.statistics(prepared, "octo")
    kwargs = {
        "name": prepared.name,
        "data_dir": str(prepared.out),
        "image_obs_keys": {slot: entry["image_obs_keys"][slot] for slot in ("primary", "wrist")},
        "proprio_obs_key": "state" if entry["state_obs_keys"] else None,
        "language_key": "language_instruction",
    }
    return Extras(
        files={"dataset_kwargs.json": json.dumps(kwargs, indent=2) + "\n", "dataset_statistics.json": made.text},
        command=[
            "cd octo",
            "python scripts/finetune.py --config=scripts/configs/finetune_config.py:full,language_conditioned "
            "--config.pretrained_path=hf://rail-berkeley/octo-small-1.5 "
            f"--config.dataset_kwargs.name={prepared.name} --config.dataset_kwargs.data_dir={prepared.word()}",
        ],
        facts=[
            "the rest of dataset_kwargs.json goes into finetune_config.py, which takes dictionaries in its file",
            *(finding.message for finding in made.findings),
        ],
    )
