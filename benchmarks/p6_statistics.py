"""P6: openpi's statistics of a LeRobot dataset (chunks of 10 actions), ours against openpi's way through a loader.

    python -m benchmarks.p6_statistics --lerobot-python LEROBOT_VENV/bin/python

The peer reads every frame through `LeRobotDataset` and two workers, images and all, in batches of 32; ours reads
two columns. Both are timed from the open dataset on; ours as a whole command, interpreter included, is given
beside it. The dataset is written anew each time. The goal is 500 times the peer's frames a second.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.episodes import write_rollouts

HORIZON = 10
PEERS = Path(__file__).parent / "peers"


def make_dataset(rollouts: str, target: str, images: str) -> int:
    import vla_data as vd

    report = vd.run(vd.open_source(rollouts), (), vd.open_sink(target, images=images), workers=2)
    return int(report.counts["kept"])


def read_ours(target: str) -> float:
    from vla_data import open_source
    from vla_data.statistics.make import make
    from vla_data.statistics.trainers import writer

    kind = writer("openpi", action_horizon=HORIZON, state="action")
    source = open_source(target)
    start = time.perf_counter()
    make({"set": source}, kind)
    return time.perf_counter() - start


def ours(target: str, _repeat: int) -> dict[str, float]:
    run, seconds = harness.run_function("benchmarks.p6_statistics:read_ours", target=target)
    command = [sys.executable, "-m", "vla_data", "stats", target, "--format", "openpi", "--state", "action"]
    whole = harness.run_command([*command, "--action-horizon", str(HORIZON)])
    if not (run.ok and whole.ok):
        raise SystemExit(run.error() + whole.error())
    return {"seconds": float(seconds), "command": whole.seconds}


def peer(python: str, target: str, frames: int, _repeat: int) -> dict[str, float]:
    script = [python, str(PEERS / "lerobot_stats.py"), "chunks", target, str(HORIZON), str(frames), str(PEERS)]
    run = harness.run_command(script, env={"HF_HUB_OFFLINE": "1"})
    if not run.ok:
        raise SystemExit(run.error())
    result: dict[str, Any] = json.loads(run.stdout.rsplit("benchmark-result: ", 1)[1])
    return {"seconds": result["seconds"], "frames": result["frames"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--peer-frames", type=int, default=640, help="frames of the dataset that the peer reads")
    parser.add_argument("--images", choices=["png", "jpeg"], default="png")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lerobot-python", default=os.environ.get("LEROBOT_PYTHON"), help="or LEROBOT_PYTHON")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if not arguments.lerobot_python:
        parser.error("name an interpreter that has lerobot, with --lerobot-python or LEROBOT_PYTHON")
    with tempfile.TemporaryDirectory() as root:
        rollouts, target = Path(root, "rollouts"), str(Path(root, "set"))
        write_rollouts(rollouts, episodes=arguments.episodes, layout="ppo", workers=2)
        frames = harness.run_function(
            "benchmarks.p6_statistics:make_dataset", rollouts=str(rollouts), target=target, images=arguments.images
        )[1]
        sides = {
            "ours": partial(ours, target),
            "openpi": partial(peer, arguments.lerobot_python, target, arguments.peer_frames),
        }
        done = harness.alternate(sides, repeats=arguments.repeats)
    fps = {
        "ours": harness.median(frames / run["seconds"] for run in done["ours"]),
        "ours, whole command": harness.median(frames / run["command"] for run in done["ours"]),
        "openpi": harness.median(run["frames"] / run["seconds"] for run in done["openpi"]),
    }
    lines = [
        {"side": name, "frames/s": rate, "times openpi's": rate / fps["openpi"]} for name, rate in fps.items()
    ]
    print(f"{frames:,} frames of {arguments.images}, 480x640")
    print(harness.table(lines))
    print("goal (500x):", "met" if fps["ours"] >= 500 * fps["openpi"] else "MISSED")
    if arguments.output:
        harness.write_json(
            arguments.output, {"machine": harness.machine("numpy", "pyarrow"), "frames": frames, "rows": lines}
        )


if __name__ == "__main__":
    main()
