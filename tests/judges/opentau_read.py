"""OpenTau reads what was prepared: its configuration, mixture, loader and normalisation; JSON on standard output.

    cd OpenTau; python opentau_read.py OUT/opentau.json RECORD

The configuration is parsed and validated as ``opentau-train --config_path=`` does. RECORD gets a batch of the
loader, which is in half precision, and what pi0.5's own normalisation makes of it by the mixture's statistics.
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import numpy as np
import torch
from opentau.configs.train import TrainPipelineConfig
from opentau.configs.types import FeatureType
from opentau.datasets.factory import make_dataset_mixture
from opentau.datasets.utils import dataset_to_policy_features
from opentau.policies.normalize import Normalize


def main() -> None:
    path, record = sys.argv[1:3]
    sys.argv = ["opentau-train", f"--config_path={path}"]
    config = TrainPipelineConfig.from_pretrained(path, cli_args=["--num_workers=0"])
    with tempfile.TemporaryDirectory() as folder:
        config.output_dir = None
        config.validate()
        del folder
    mixture = make_dataset_mixture(config)
    batch = next(iter(mixture.get_dataloader()))
    meta, policy = mixture.meta, config.policy
    features = dataset_to_policy_features(meta.features)
    chosen = {name: feature for name, feature in features.items() if feature.type is not FeatureType.VISUAL}
    normalize = Normalize(
        chosen,
        policy.normalization_mapping,
        per_dataset_stats=list(meta.per_norm_key_stats),
        dataset_names=list(meta.norm_keys),
        zero_range_center=policy.zero_range_centers_on_zero(),
        eps=policy.normalization_epsilon(),
    )
    numbers = {name: batch[name].float() for name in ("state", "actions")}
    scaled = normalize(numbers, torch.zeros(len(batch["state"]), dtype=torch.long))
    pictures = {name: batch[name].float().numpy() for name in batch if name.startswith("camera")}
    pictures = {name: values for name, values in pictures.items() if values.ndim == 4}
    np.savez(
        record,
        **{name: values.numpy() for name, values in numbers.items()},
        **{f"scaled_{name}": scaled[name].numpy() for name in numbers},
        **pictures,
        prompt=np.array(batch["prompt"]),
        episode=batch["episode_index"].numpy(),
        frame=batch["frame_index"].numpy(),
        is_pad=batch["action_is_pad"].numpy(),
        img_is_pad=batch["img_is_pad"].numpy(),
    )
    told: dict[str, Any] = {
        "modes": {str(kind): mode.value for kind, mode in policy.normalization_mapping.items()},
        "optimizer": type(config.optimizer).__name__,
        "eps": policy.normalization_epsilon(),
    }
    print("JUDGE " + json.dumps(told))


if __name__ == "__main__":
    main()
