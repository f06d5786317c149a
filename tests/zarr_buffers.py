"""Small replay buffers, written by zarr itself as Diffusion Policy and UMI write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

LENGTHS = (4, 6, 5)
ENDS = tuple(np.cumsum(LENGTHS).tolist())
TASK = "push the T onto the target"


def arrays(seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Name -> array of all steps."""
    random, steps = np.random.default_rng(seed), ENDS[-1]
    return {
        "action": random.uniform(0, 512, (steps, 2)).astype(np.float32),
        "camera0_rgb": random.integers(0, 255, (steps, 12, 16, 3)).astype(np.uint8),
        "img": random.integers(0, 255, (steps, 8, 8, 3)).astype(np.float32),
        "robot0_eef_pos": random.normal(size=(steps, 3)).astype(np.float32),
        "state": random.normal(size=(steps, 5)),
        "n_contacts": random.integers(0, 9, (steps, 1)),
        "timestamp": 100 + np.arange(steps) / 10,
    }


def write(
    root: Path, given: dict[str, np.ndarray[Any, Any]] | None = None, *, codec: Any = None, chunk: int = 3
) -> Path:
    """A buffer in a folder, or in an archive where the name ends in ``.zip``."""
    import numcodecs
    import zarr
    from zarr.storage import LocalStore, ZipStore

    store = ZipStore(root, mode="w") if root.suffix == ".zip" else LocalStore(root)
    group = zarr.create_group(store, zarr_format=2)
    made = {f"data/{name}": array for name, array in (arrays() if given is None else given).items()}
    for name, array in {**made, "meta/episode_ends": np.array(ENDS, dtype=np.int64)}.items():
        kept = group.create_array(
            name,
            shape=array.shape,
            chunks=(chunk, *array.shape[1:]),
            dtype=array.dtype,
            compressors=codec or numcodecs.Blosc("lz4", clevel=5, shuffle=0),
        )
        kept[:] = array
    if root.suffix == ".zip":
        store.close()
    return root
