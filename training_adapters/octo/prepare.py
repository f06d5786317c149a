"""What Octo needs beside its code: an RLDS dataset, its statistics, a configuration.

Octo's command line takes single values of its configuration, and its ``finetune_config.py`` has the keys, the mask
and the transform of another dataset. So the configuration is a file of ours, which asks Octo's for the rest.
"""

from __future__ import annotations

import json
from typing import Any, Final

from training_adapters.rlds_prepare import FORMAT as FORMAT
from training_adapters.rlds_prepare import meanings, statistics
from training_adapters.rlds_prepare import place as place
from training_adapters.rlds_prepare import sink_options as sink_options
from vla_data.actions import Convention
from vla_data.actions.convention import quantity
from vla_data.preparing import Extras, Prepared

NEEDS_GATE: Final = True


def extras(prepared: Prepared) -> Extras:
    """See `vla_data.preparing.job.Preparation`."""
    entry = prepared.gate["config"]
    made = statistics(prepared, "octo")
    kwargs: dict[str, Any] = {
        "name": prepared.name,
        "data_dir": str(prepared.out),
        "image_obs_keys": {slot: entry["image_obs_keys"][slot] for slot in ("primary", "wrist")},
        "proprio_obs_key": "state" if entry["state_obs_keys"] else None,
        "language_key": "language_instruction",
        "action_proprio_normalization_type": "normal",
    }
    mask = normalised(prepared)
    if not all(mask):
        kwargs["action_normalization_mask"] = mask
    return Extras(
        files={
            "dataset_kwargs.json": json.dumps(kwargs, indent=2) + "\n",
            "dataset_statistics.json": made.text,
            "octo_config.py": _CONFIG,
        },
        command=[
            "cd octo",
            f"python scripts/finetune.py --config={prepared.word('octo_config.py')}:full,language_conditioned "
            "--config.pretrained_path=hf://rail-berkeley/octo-small-1.5 "
            f"--config.save_dir={prepared.word('train')}",
        ],
        facts=[
            "octo_config.py is finetune_config.py of Octo with dataset_kwargs.json as its dataset_kwargs",
            *meanings(prepared),
            *(finding.message for finding in made.findings),
        ],
    )


def normalised(prepared: Prepared) -> list[bool]:
    """For each number of an action whether Octo normalises it: all but the grippers that are declared."""
    action = prepared.feature("action")
    layout = Convention.from_json(action.convention).layout or {}
    grippers = {i for name, places in layout.items() if quantity(name) == "gripper" for i in places}
    return [i not in grippers for i in range(action.shape[0])]


_CONFIG: Final = '''"""Octo's own configuration with one dataset in it, used in Octo's folder. Made by vla-data."""

import json
import pathlib
import runpy

HERE = pathlib.Path(__file__).resolve().parent


def get_config(config_string="full,language_conditioned"):
    config = runpy.run_path("scripts/configs/finetune_config.py")["get_config"](config_string)
    del config["dataset_kwargs"]  # whose fields can't change their types
    config["dataset_kwargs"] = json.loads((HERE / "dataset_kwargs.json").read_text())
    return config
'''
