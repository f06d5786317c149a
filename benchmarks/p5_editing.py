"""P5: an episode left out of a LeRobot dataset with video, `vla-data edit` against lerobot's own tool.

    python -m benchmarks.p5_editing --lerobot-python LEROBOT_VENV/bin/python [--repeats 5] [--output result.json]

8 episodes of 80 frames of 480x640 in AV1, with lerobot's settings (crf 30, a key frame every second frame);
episode 3 is dropped. The sides run in turn, each command in its own process; CPU seconds are of all processes of a
command, medians with the least and the greatest. The video step alone is, of ours, cutting every kept episode out,
with a SHA-256 of every packet, joining them and reading them back, in a process that has the library loaded
(median of 10); of lerobot its re-encoding. Ours is exact, which is checked by the MD5 of every decoded frame;
lerobot's is lossy and its PSNR is told. Goals: 300 times the video step, 30 times the command. Leaves with 1 where
one is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from benchmarks import harness

PEER: Final = harness.REPOSITORY / "benchmarks/peers/lerobot_edit.py"
CAMERA: Final = "observation.images.primary"
EPISODES, STEPS, SIZE, DROPPED = 8, 80, (480, 640), 3
GOALS: Final = {"video step": 300.0, "command": 30.0}
_TIMES: Final = 10


def make(folder: Path, python: str) -> Path:
    """The dataset, from seeded rollouts."""
    rollouts, root = folder / "rollouts", folder / "set"
    facts = ("--size", *map(str, SIZE), "--steps", str(STEPS), "--episodes", str(EPISODES))
    _run([python, "-m", "benchmarks.episodes", str(rollouts), *facts])
    options = ["--video", "av1", "--min-success-steps", "0", "--pos-thresh", "none", "--rot-thresh", "none"]
    _run([python, "-m", "vla_data", "align", str(rollouts), str(root), *options])
    return root


def _run(command: Sequence[str], env: Mapping[str, str] | None = None) -> harness.Run:
    done = harness.run_command(command, env=env)
    if not done.ok:
        raise RuntimeError(f"{' '.join(command[:4])} ended with {done.exit_code}:\n{done.error()}")
    return done


def video_step(root: str) -> float:
    """CPU seconds of our video step, once everything is loaded."""
    from converters.lerobot.source import LerobotSource
    from converters.lerobot.video_files import encode
    from vla_data.media import packets

    source = LerobotSource(root=Path(root))
    facts = source.videos()
    assert facts is not None
    settings = facts.of(CAMERA)
    assert settings is not None
    kept = [source.read(ref) for n, ref in enumerate(source.episodes()) if n != DROPPED]
    spent = []
    for _ in range(_TIMES):
        packets._packets.cache_clear()
        begin = time.process_time()
        made = [encode(episode.frames[CAMERA], settings, fps=5, copy=True) for episode in kept]
        buffer = io.BytesIO()
        delay = max(facts["delay"] for _, _, facts in made)
        packets.join((data for data, _, _ in made), buffer, fps=5, delay=delay)
        assert packets.packet_digests(buffer.getvalue()) == [d for _, digests, _ in made for d in digests]
        spent.append(time.process_time() - begin)
    return statistics.median(spent)


def frames(root: Path) -> Iterator[np.ndarray[Any, Any]]:
    """The planes of every frame of a dataset, in order."""
    for file in sorted((root / "videos" / CAMERA).rglob("*.mp4")):
        with av.open(str(file)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray()


def quality(root: Path, out: Path) -> dict[str, Any]:
    """How many frames of a result are those of the source by MD5, and the PSNR of the others, of all planes."""
    gone = range(DROPPED * STEPS, (DROPPED + 1) * STEPS)
    kept = (planes for n, planes in enumerate(frames(root)) if n not in gone)
    equal = total = 0
    errors = []
    for want, found in zip(kept, frames(out), strict=True):
        total += 1
        if hashlib.md5(want.tobytes()).digest() == hashlib.md5(found.tobytes()).digest():
            equal += 1
        else:
            errors.append(float(np.mean((want.astype(np.float32) - found.astype(np.float32)) ** 2)))
    psnr = round(10 * np.log10(255**2 / float(np.mean(errors))), 2) if errors else None
    return {"frames": total, "equal": equal, "psnr": psnr}


def measure(folder: Path, python: str, repeats: int) -> dict[str, Any]:
    """Run both sides in turn."""
    root = make(folder, sys.executable)
    out = {"ours": folder / "ours", "lerobot": folder / "theirs"}
    words = {"root": str(root), "out": str(out["lerobot"]), "drop": [DROPPED]}
    commands = {
        "ours": [sys.executable, "-m", "vla_data", "edit", str(root), str(out["ours"]), "--drop", str(DROPPED)],
        "lerobot": [python, str(PEER), json.dumps(words)],
    }
    env = {
        "HF_HOME": str(folder / "hf"),
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(folder / "pyc"),
    }
    runs: dict[str, list[harness.Run]] = {side: [] for side in commands}
    steps: dict[str, list[float]] = {side: [] for side in commands}
    seen: dict[str, Any] = {}
    _run(commands["ours"], env)  # compiles
    _run([python, "-c", "import lerobot.datasets.dataset_tools"], env)
    for repeat in range(repeats):
        for side, command in commands.items():
            shutil.rmtree(out[side], ignore_errors=True)
            spent = _run(command, env)
            runs[side].append(spent)
            if side == "lerobot":
                told = json.loads(spent.stdout.strip().splitlines()[-1].partition(": ")[2])
                steps[side].append(told["video_seconds"])
                seen["packages"] = told["packages"]
            else:
                steps[side].append(harness.run_function("benchmarks.p5_editing:video_step", root=str(root))[1])
            if repeat == 0:
                seen[side] = quality(root, out[side])
    return {
        "machine": harness.machine("av", "numpy", "pyarrow"),
        "seen": seen,
        "command_cpu": {side: [run.cpu_seconds for run in done] for side, done in runs.items()},
        "command_wall": {side: [run.seconds for run in done] for side, done in runs.items()},
        "video_cpu": steps,
    }


def rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a figure."""
    out = []
    for name, key in (("video step", "video_cpu"), ("command", "command_cpu")):
        ours, theirs = (result[key][side] for side in ("ours", "lerobot"))
        ratio = statistics.median(theirs) / statistics.median(ours)
        goal = f"{GOALS[name]:g}" if ratio >= GOALS[name] else f"{GOALS[name]:g}: MISSED"
        out.append(
            {
                "": f"{name}, CPU s",
                "ours": span(ours),
                "lerobot": span(theirs),
                "ratio": round(ratio),
                "goal": goal,
            }
        )
    walls = {side: span(result["command_wall"][side]) for side in ("ours", "lerobot")}
    equal = {}
    for side in ("ours", "lerobot"):
        facts = result["seen"][side]
        psnr = "" if facts["psnr"] is None else f"; PSNR {facts['psnr']} dB"
        equal[side] = f"{facts['equal']} of {facts['frames']}{psnr}"
    wall = {"": "command, wall s", **walls, "ratio": None, "goal": None}
    return [*out, wall, {"": "frames equal by MD5", **equal, "ratio": None, "goal": "all of ours"}]


def span(values: Sequence[float]) -> str:
    """Median (least-greatest)."""
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lerobot-python", default=os.environ.get("LEROBOT_PYTHON"), required=False)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON")
    options = parser.parse_args()
    if not options.lerobot_python:
        parser.error("--lerobot-python or LEROBOT_PYTHON names an interpreter with lerobot 0.4.4")
    with tempfile.TemporaryDirectory(prefix="p5-") as folder:
        result = measure(Path(folder), options.lerobot_python, options.repeats)
    found = rows(result)
    print(harness.table(found))
    if options.output:
        harness.write_json(options.output, {**result, "rows": found})
    return 1 if any("MISSED" in str(row["goal"]) for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
