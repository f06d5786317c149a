"""What RLinf needs beside its code: the dataset and the ``data`` block of its hydra configuration."""

from __future__ import annotations

import json
from typing import Final

from training_adapters.v21_prepare import FORMAT as FORMAT
from training_adapters.v21_prepare import place as place
from training_adapters.v21_prepare import sink_options as sink_options
from vla_data.preparing import Extras, Prepared

NEEDS_GATE: Final = False
CAMERAS: Final = ("observation.images.image", "observation.images.wrist_image")
"""Those of its robot type libero_v2 (``rlinf/data/datasets/recap/value_dataset.py``)."""


def extras(prepared: Prepared) -> Extras:
    """See `vla_data.preparing.job.Preparation`."""
    prepared.feature("action")
    tag = prepared.options.get("tag") or "v1"
    kind = "rollout" if "next.success" in prepared.schema.features else "sft"
    block = [
        "# RLinf's data block; the rest of the configuration is RLinf's own. Made by vla-data.",
        "data:",
        "  train_data_paths:",
        f"    - dataset_path: {json.dumps(str(prepared.folder))}",
        f"      type: {kind}",
        "      weight: 1.0",
        f"  advantage_tag: {tag}",
        "",
    ]
    values = "VALUES.parquet"
    known = set(prepared.cameras) >= set(CAMERAS)
    cameras = (
        [] if known else [f"RLinf's robot type libero_v2 reads {' and '.join(CAMERAS)}: --rename gives names"]
    )
    return Extras(
        files={"rlinf_data.yaml": "\n".join(block)},
        command=[
            f"vla-data annotate {prepared.word(place(prepared.name))} --values {values} --tag {tag} "
            "--positive-share 0.3 --layout rlinf",
            "cd RLinf && bash examples/offline_rl/policy_optimization/cfg_rl/run_cfg_rl.sh CONFIG   "
            "# with the block of rlinf_data.yaml in examples/offline_rl/config/CONFIG.yaml",
        ],
        facts=[
            f"the dataset is of type {kind}",
            *cameras,
            f"meta/advantages_{tag}.parquet is what annotate writes; RLinf stops at a frame that it lacks",
        ],
    )
