"""What robomimic's own `SequenceDataset` reads, as JSON on standard output. Runs where robomimic is installed.

    python robomimic_judge.py FILE FILTER_KEY CACHE_MODE KEYS...

robomimic imports libraries that only its networks and its logs need; stand-ins take their places.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any
from unittest.mock import MagicMock

import numpy as np

for name in (
    "torchvision",
    "torchvision.transforms",
    "torchvision.models",
    "matplotlib",
    "tensorboardX",
    "imageio",
):
    sys.modules[name] = MagicMock()
sys.modules["torchvision.transforms.functional"] = sys.modules["matplotlib.pyplot"] = MagicMock()
if not hasattr(np, "product"):
    np.product = np.prod  # type: ignore[attr-defined]


def main(file: str, mask: str, cache: str, *keys: str) -> dict[str, Any]:
    """SHA-256 of each key's values over all items, as float64."""
    from robomimic.utils import file_utils, obs_utils
    from robomimic.utils.dataset import SequenceDataset

    images = [key for key in keys if key.endswith("image") or key == "primary"]
    low = [key for key in keys if key not in images]
    obs_utils.initialize_obs_utils_with_obs_specs([{"obs": {"low_dim": low, "rgb": images}}])
    found = SequenceDataset(
        hdf5_path=file,
        obs_keys=list(keys),
        dataset_keys=("actions", "rewards", "dones"),
        load_next_obs=False,
        hdf5_cache_mode=None if cache == "none" else cache,
        filter_by_attribute=mask or None,
    )
    digests = {key: hashlib.sha256() for key in ("actions", "rewards", "dones", *keys)}
    for i in range(len(found)):
        item = found[i]
        for key, digest in digests.items():
            value = item["obs"][key] if key in keys else item[key]
            digest.update(np.asarray(value, dtype=np.float64).tobytes())
    return {
        "steps": len(found),
        "demos": found.n_demos,
        "env": file_utils.get_env_metadata_from_dataset(file)["env_name"],
        "sha256": {key: digest.hexdigest() for key, digest in digests.items()},
    }


if __name__ == "__main__":
    print("JUDGED " + json.dumps(main(*sys.argv[1:])))
