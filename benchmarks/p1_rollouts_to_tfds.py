"""P1 and P2: rollouts to an RLDS dataset, `vla_data build ppo_sft_aligned` against RL4VLA's builder.

    python -m benchmarks.p1_rollouts_to_tfds --short

Speed is images read a second, on both sides from the same files. Ours is the whole command. The peer's time
begins when TensorFlow is imported and its builder made; its figure with that start-up is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.episodes import Layout, images_per_episode, write_rollouts
from benchmarks.limits import Limit, limit
from benchmarks.peers import rl4vla_tfds

_PACKAGES = (
    "numpy", "pillow", "simplejpeg", "isal", "deflate", "tensorflow", "tensorflow-cpu", "tensorflow-datasets"
)  # fmt: skip
_STEPS = 80
_PROCESS_MB_GOAL = 600.0


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of input and what we want to reach on it."""

    name: str
    layout: Layout
    size: tuple[int, int]
    ratio_goal: float
    limit_goal: float | None = None


CASES = (
    Case("P1", "planner", (480, 640), ratio_goal=3.0, limit_goal=0.85),
    Case("P2-480", "ppo", (480, 640), ratio_goal=3.5),
    Case("P2-256", "ppo", (256, 256), ratio_goal=2.5),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One repeat of one side, whose output is deleted again; `frames_out` are counted where asked."""

    seconds: float
    seconds_with_startup: float
    peak_tree_mb: float
    peak_process_mb: float
    frames_out: int | None
    details: dict[str, Any]


def measure_case(case: Case, *, episodes: int, repeats: int, workers: int, folder: Path) -> dict[str, Any]:
    """Write the case's files into `folder`, run both sides on them in turn, and sum up."""
    rollouts = folder / "rollouts"
    files = write_rollouts(
        rollouts, episodes=episodes, size=case.size, layout=case.layout, steps=_STEPS, workers=workers
    )
    images = episodes * images_per_episode(case.layout, _STEPS)
    runs = harness.alternate(
        {
            "ours": lambda repeat: _ours(rollouts, folder / "ours", workers=workers, count=repeat == 0),
            "peer": lambda repeat: _peer(rollouts, folder / "peer"),
        },
        repeats=repeats,
    )
    ours, peer = _summary(runs["ours"], images), _summary(runs["peer"], images)
    # Had we to encode as many frames as the side that keeps more, it would be this share of those read.
    kept = max(run.frames_out or 0 for side in runs.values() for run in side)
    floor = limit(files, kept_share=kept / images, cores=workers)
    return {
        "case": case.name,
        "layout": case.layout,
        "size": list(case.size),
        "episodes": episodes,
        "images": images,
        "input_mb": sum(file.stat().st_size for file in files) / 1e6,
        "repeats": repeats,
        "workers": workers,
        "ours": ours,
        "peer": peer,
        "limit": floor.as_dict(),
        **_verdict(case, ours, peer, floor),
    }


def _ours(rollouts: Path, out: Path, *, workers: int, count: bool) -> Measured:
    command = [sys.executable, "-m", "vla_data", "build", "ppo_sft_aligned"]
    command += ["--input", str(rollouts), "--data-dir", str(out)]
    command += ["--min-success-steps", "6", "--workers", str(workers), "--json"]
    run = harness.run_command(command)
    if not run.ok:
        raise RuntimeError(f"vla_data build ended with exit code {run.exit_code}:\n{run.error()}")
    frames = rl4vla_tfds.count_frames(out)["frames"] if count else None
    shutil.rmtree(out)
    return Measured(
        seconds=run.seconds,
        seconds_with_startup=run.seconds,
        peak_tree_mb=run.peak_tree_mb,
        peak_process_mb=run.peak_process_mb,
        frames_out=frames,
        details={},
    )


def _peer(rollouts: Path, out: Path) -> Measured:
    result = rl4vla_tfds.build(rollouts, out)
    shutil.rmtree(out)
    return Measured(
        seconds=result["seconds"],
        seconds_with_startup=result["wall_seconds"],
        peak_tree_mb=result["peak_mb"],
        peak_process_mb=result["peak_mb"],
        frames_out=result["frames_out"],
        details={key: result[key] for key in ("startup_seconds", "import_mb", "import_peak_mb")},
    )


def _summary(runs: Sequence[Measured], images: int) -> dict[str, Any]:
    return {
        "fps": images / harness.median(run.seconds for run in runs),
        "fps_with_startup": images / harness.median(run.seconds_with_startup for run in runs),
        "seconds": [run.seconds for run in runs],
        "seconds_with_startup": [run.seconds_with_startup for run in runs],
        "spread": harness.spread([run.seconds for run in runs]),
        "peak_tree_mb": max(run.peak_tree_mb for run in runs),
        "peak_process_mb": max(run.peak_process_mb for run in runs),
        "frames_out": next(run.frames_out for run in runs if run.frames_out is not None),
        **runs[-1].details,
    }


def _verdict(case: Case, ours: dict[str, Any], peer: dict[str, Any], floor: Limit) -> dict[str, Any]:
    ratio, share = ours["fps"] / peer["fps"], ours["fps"] / floor.fps
    met = {"ratio": ratio >= case.ratio_goal}
    if case.limit_goal is not None:
        met["limit_share"] = share >= case.limit_goal
        met["process_mb"] = ours["peak_process_mb"] <= _PROCESS_MB_GOAL
    return {
        "ratio": ratio,
        "ratio_with_startup": ours["fps_with_startup"] / peer["fps_with_startup"],
        "ratio_goal": case.ratio_goal,
        "limit_share": share,
        "limit_share_goal": case.limit_goal,
        "met": met,
    }


def report(result: dict[str, Any]) -> str:
    """One case as a table of its two sides and a line on each goal."""
    sides = [
        {
            "side": name,
            "fps": side["fps"],
            "with start-up": side["fps_with_startup"],
            "spread": f"{side['spread']:.0%}",
            "of limit": f"{side['fps'] / result['limit']['fps']:.0%}",
            "peak MB": side["peak_tree_mb"],
            "one process MB": side["peak_process_mb"],
            "frames out": side["frames_out"],
        }
        for name, side in (("ours", result["ours"]), ("peer", result["peer"]))
    ]
    floor, (height, width) = result["limit"], result["size"]
    lines = [
        f"{result['case']}: {result['episodes']} {result['layout']} episodes, {result['images']} images"
        f" {height}x{width}, {result['input_mb']:.0f} MB, {result['repeats']} x",
        harness.table(sides),
        f"limit on {floor['cores']} cores: {floor['fps']:.0f} fps (a core inflates"
        f" {floor['inflate_fps_per_core']:.0f} with {floor['inflater']}, encodes"
        f" {floor['jpeg_encode_fps_per_core']:.0f} of {floor['jpeg_kb']:.0f} KB,"
        f" {floor['kept_share']:.0%} kept)",
        f"ratio: {result['ratio']:.2f}, goal {result['ratio_goal']}"
        f" (the peer's start-up counted too: {result['ratio_with_startup']:.2f})",
        "goals: " + ", ".join(f"{goal} {'met' if met else 'MISSED'}" for goal, met in result["met"].items()),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="16 episodes, 1 repeat, under 3 minutes")
    parser.add_argument("--episodes", type=int, help="default 64, short 16")
    parser.add_argument("--repeats", type=int, help="default 3, short 1")
    parser.add_argument("--workers", type=int, default=2, help="our processes, and the limit's cores")
    parser.add_argument("--case", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--temp", type=Path, help="where the files go meanwhile, 3 GB in the full mode")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    options = parser.parse_args(arguments)
    machine = harness.machine(*_PACKAGES)
    print(json.dumps(machine), flush=True)
    results = []
    for case in CASES:
        if options.case and case.name not in options.case:
            continue
        with tempfile.TemporaryDirectory(prefix="vla-data-p1-", dir=options.temp) as folder:
            try:
                result = measure_case(
                    case,
                    episodes=options.episodes or (16 if options.short else 64),
                    repeats=options.repeats or (1 if options.short else 3),
                    workers=options.workers,
                    folder=Path(folder),
                )
            except RuntimeError as error:
                print(f"{case.name}: {error}", file=sys.stderr)
                return 1
        results.append(result)
        print(f"\n{report(result)}", flush=True)
        if options.output:
            content = {"benchmark": "rollouts_to_tfds", "machine": machine, "results": results}
            harness.write_json(options.output, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
