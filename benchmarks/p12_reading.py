"""P12: reading rollouts safely against `np.load(allow_pickle=True)`, on the same files.

    python -m benchmarks.p12_reading

Ours reads the file, hashes it, walks the pickle symbolically and validates everything; the peer unpickles and
makes one array of the images. The goal is at most 1.3 times the peer's time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks import harness
from benchmarks.episodes import write_rollouts


def read_ours(folder: str) -> float:
    """Seconds to read every file of a folder."""
    from converters.rollouts.source import PpoRolloutSource

    source = PpoRolloutSource(root=Path(folder))
    start = time.perf_counter()
    for ref in source.episodes():
        source.read(ref)
    return time.perf_counter() - start


def read_peer(folder: str) -> float:
    """The same with NumPy, as collectors' users do it."""
    import numpy as np
    from PIL import Image  # the pickles need it; imported before the clock runs

    assert Image
    start = time.perf_counter()
    for path in sorted(Path(folder).iterdir()):
        loaded = np.load(path, allow_pickle=True)
        rollout = (loaded["arr_0"] if path.suffix == ".npz" else loaded).item()
        np.asarray([np.asarray(image) for image in rollout["image"]])
        np.asarray(rollout["action"], dtype=np.float32)
    return time.perf_counter() - start


def _read(folder: str, side: str, _repeat: int) -> float:
    return float(harness.run_function(f"benchmarks.p12_reading:read_{side}", folder=folder)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for layout, compressed in (("planner", True), ("planner", False), ("ppo", True)):
            folder = str(Path(root, f"{layout}{compressed}"))
            write_rollouts(
                Path(folder), episodes=arguments.episodes, layout=layout, compressed=compressed, workers=2
            )
            sides = {side: partial(_read, folder, side) for side in ("ours", "peer")}
            done = {
                name: harness.median(times)
                for name, times in harness.alternate(sides, repeats=arguments.repeats).items()
            }
            rows.append(
                {
                    "files": f"{layout}, {'compressed' if compressed else 'stored'}",
                    "ours s": done["ours"],
                    "peer s": done["peer"],
                    "ratio": done["ours"] / done["peer"],
                    "goal": "met" if done["ours"] <= 1.3 * done["peer"] else "MISSED",
                }
            )
    print(harness.table(rows))
    if arguments.output:
        harness.write_json(
            arguments.output, {"machine": harness.machine("numpy", "pillow", "deflate"), "rows": rows}
        )


if __name__ == "__main__":
    main()
