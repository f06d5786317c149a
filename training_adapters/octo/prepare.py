"""What Octo needs beside its code: an RLDS dataset, ``dataset_kwargs`` of its configuration, its statistics."""

from __future__ import annotations

import json
from typing import Final

from training_adapters.rlds_prepare import FORMAT as FORMAT
from training_adapters.rlds_prepare import meanings, statistics
from training_adapters.rlds_prepare import place as place
from training_adapters.rlds_prepare import sink_options as sink_options
from vla_data.preparing import Extras, Prepared

NEEDS_GATE: Final = True


def extras(prepared: Prepared) -> Extras:
    """See `vla_data.preparing.job.Preparation`."""
    entry = prepared.gate["config"]
    made = statistics(prepared, "octo")
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
            *meanings(prepared),
            *(finding.message for finding in made.findings),
        ],
    )
