"""What OpenVLA needs beside its code: an RLDS dataset, its entry in two tables, its statistics.

OpenVLA (``prismatic/vla/datasets/rlds/oxe``) knows datasets by name: ``OXE_DATASET_CONFIGS`` and
``OXE_STANDARDIZATION_TRANSFORMS``. The file of ours adds both and then runs OpenVLA's own script, so that nothing
of it is edited.
"""

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
    made = statistics(prepared, "openvla")
    told = json.loads(made.text)
    # As OpenVLA's own file has it for EEF_POS; without it inference would scale the gripper.
    told[prepared.name]["action"]["mask"] = [True] * 6 + [False]
    return Extras(
        files={
            "dataset_statistics.json": json.dumps(told, indent=2) + "\n",
            "openvla_finetune.py": _TEMPLATE.format(
                name=repr(prepared.name),
                images=repr(entry["image_obs_keys"]),
                depth=repr(entry["depth_obs_keys"]),
                state=repr(entry["state_obs_keys"] or [None]),
            ),
        },
        command=[
            "cd openvla",
            f"torchrun --standalone --nnodes 1 --nproc-per-node 1 {prepared.word('openvla_finetune.py')} "
            f"--vla_path openvla/openvla-7b --data_root_dir {prepared.word()} --dataset_name {prepared.name} "
            f"--run_root_dir {prepared.word('train')}",
        ],
        facts=[
            "dataset_statistics.json is what a checkpoint needs for inference; training computes its own",
            *meanings(prepared),
            *(finding.message for finding in made.findings),
        ],
    )


_TEMPLATE: Final = '''"""OpenVLA on one dataset: its tables, then vla-scripts/finetune.py. Made by vla-data."""

import runpy

from prismatic.vla.datasets.rlds.oxe.configs import OXE_DATASET_CONFIGS, ActionEncoding, StateEncoding
from prismatic.vla.datasets.rlds.oxe.transforms import OXE_STANDARDIZATION_TRANSFORMS

NAME = {name}
OXE_DATASET_CONFIGS[NAME] = {{
    "image_obs_keys": {images},
    "depth_obs_keys": {depth},
    "state_obs_keys": {state},
    "state_encoding": StateEncoding.NONE,
    "action_encoding": ActionEncoding.EEF_POS,
}}


def keep(trajectory):
    """The dataset is as OpenVLA wants it."""
    return trajectory


OXE_STANDARDIZATION_TRANSFORMS[NAME] = keep

if __name__ == "__main__":
    runpy.run_path("vla-scripts/finetune.py", run_name="__main__")
'''
