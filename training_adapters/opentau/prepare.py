"""What OpenTau needs beside its code: the dataset and a mixture of it, with the threshold of its advantages."""

from __future__ import annotations

import json
from typing import Final

from training_adapters.v21_prepare import FORMAT as FORMAT
from training_adapters.v21_prepare import place as place
from training_adapters.v21_prepare import sink_options as sink_options
from vla_data.preparing import Extras, Prepared

NEEDS_GATE: Final = False
CHUNK: Final = 50
BATCH: Final = 8


def extras(prepared: Prepared) -> Extras:
    """See `vla_data.preparing.job.Preparation`."""
    action, state = prepared.feature("action"), prepared.feature("observation.state")
    chunk = int(prepared.options.get("action_horizon") or CHUNK)
    names = {"state": "observation.state", "actions": "action", "prompt": "task"}
    names |= {f"camera{i}": camera for i, camera in enumerate(prepared.cameras)}
    size = max(32, action.shape[0], state.shape[0])
    mixture = {
        "dataset_mixture": {
            "datasets": [
                {
                    "repo_id": f"local/{prepared.name}",
                    "root": str(prepared.folder),
                    "data_features_name_mapping": names,
                }
            ],
            "weights": [1.0],
            "action_freq": prepared.schema.fps,
            "image_resample_strategy": "nearest",
            "vector_resample_strategy": "nearest",
        },
        "policy": {
            "type": "pi05",
            "pretrained_path": "TensorAuto/pi05_base",
            "chunk_size": chunk,
            "n_action_steps": chunk,
            "max_state_dim": size,
            "max_action_dim": size,
        },
        "resolution": [224, 224],
        "num_cams": len(prepared.cameras),
        "max_state_dim": size,
        "max_action_dim": size,
        "action_chunk": chunk,
        "batch_size": BATCH,
        "use_policy_training_preset": True,
        "seed": 1000,
    }
    return Extras(
        files={"opentau.json": json.dumps(mixture, indent=4) + "\n"},
        command=[
            f"opentau-train --accelerate-config=ACCELERATE.yaml --config_path={prepared.word('opentau.json')}"
        ],
        facts=[
            f"action_freq is the dataset's {prepared.schema.fps:g} Hz",
            "for RECAP: `vla-data annotate` this dataset with --layout opentau; the advantage_threshold that "
            "it prints goes into the policy",
        ],
    )
