"""What RLinf needs beside its code: the dataset and the ``data`` block of its hydra configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from vla_data.preparing import Extras, Prepared

FORMAT: Final = "lerobot"
NEEDS_GATE: Final = False


def sink_options(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """See `vla_data.preparing.job.Preparation`."""
    del name
    return {**given, "version": "v2.1"}


def place(name: str) -> str:
    """See `vla_data.preparing.job.Preparation`."""
    return name


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
    return Extras(
        files={"rlinf_data.yaml": "\n".join(block)},
        command=[
            f"vla-data annotate {prepared.word(place(prepared.name))} --values {values} --tag {tag} "
            "--positive-share 0.3 --layout rlinf",
            "cd RLinf && bash examples/offline_rl/run_cfg_rl.sh CONFIG   # with the block of rlinf_data.yaml",
        ],
        facts=[
            f"the dataset is of type {kind}",
            f"meta/advantages_{tag}.parquet is what annotate writes; RLinf stops at a frame that it lacks",
        ],
    )
