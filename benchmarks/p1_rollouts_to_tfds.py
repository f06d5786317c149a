"""P1 and P2: rollouts to an RLDS dataset, `vla_data build ppo_sft_aligned` against RL4VLA's builder.

    python -m benchmarks.p1_rollouts_to_tfds --episodes 8 64 --repeats 5

From the same files, in turn: ours, the peer, and the limit (`benchmarks.limits`). Ours is the whole command. The
peer is given as a whole and, as "warm", from when TensorFlow is imported and its builder made. More episodes than
64 are links to 64 files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.episodes import Layout, images_per_episode, write_rollouts
from benchmarks.limits import Limit, limit
from benchmarks.peers import rl4vla_tfds
from benchmarks.results import Cell, Table

_PACKAGES = (
    "numpy", "pillow", "simplejpeg", "isal", "deflate", "tensorflow", "tensorflow-cpu", "tensorflow-datasets"
)  # fmt: skip
_STEPS = 80
_WRITTEN = 64
_COLUMNS = (
    *("input", "episodes", "ours, CPU s", "peer, CPU s", "warm, CPU s", "CPU ratio", "ratio to warm"),
    *("ours, s", "peer, s", "wall ratio", "limit, CPU s", "share of limit", "ours, MB", "peer, MB", "goals"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of input and what we want to reach on it: the ratio to the peer as a whole by episodes."""

    name: str
    layout: Layout
    size: tuple[int, int]
    goals: tuple[tuple[int, float], ...]
    limit_goal: float | None = None
    mb_goal: float | None = None


CASES = (
    Case("P1", "planner", (480, 640), ((64, 2.8), (640, 3.0)), limit_goal=0.72, mb_goal=500.0),
    Case("P2-480", "ppo", (480, 640), ((64, 2.8),)),
    Case("P2-256", "ppo", (256, 256), ((64, 2.5),)),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One repeat of one side, whose output is deleted again; `frames` are counted in the first."""

    cpu: float
    wall: float
    warm: float
    mb: float
    frames: int


def measure(case: Case, rollouts: Path, episodes: int, *, repeats: int, workers: int, folder: Path) -> list[Cell]:
    """One row: both sides and the limit in turn, on the files of `rollouts`."""
    files = sorted(rollouts.glob("*.npz"))
    images = episodes * images_per_episode(case.layout, _STEPS)
    sides: dict[str, Any] = {
        "ours": lambda repeat: _ours(rollouts, folder / "ours", workers=workers, count=repeat == 0),
        "peer": lambda repeat: _peer(rollouts, folder / "peer"),
        "limit": lambda repeat: limit(files, cores=workers),
    }
    found: dict[str, list[Any]] = harness.alternate(sides, repeats=repeats)
    ours, peer = ([*map(_measured, found[name])] for name in ("ours", "peer"))
    # Had we to encode as many frames as the side that keeps more, it would be this share of those read.
    kept = max(run.frames for run in (*ours, *peer)) / images
    floors = [images * one.cpu_seconds(kept) for one in found["limit"] if isinstance(one, Limit)]
    mine, theirs = (harness.median(run.cpu for run in side) for side in (ours, peer))
    warm, floor = harness.median(run.warm for run in peer), harness.median(floors)
    wall = harness.median(run.wall for run in peer) / harness.median(run.wall for run in ours)
    most = max(run.mb for run in ours)
    met = {f"{goal}x": theirs / mine >= goal for count, goal in case.goals if count == episodes}
    if case.limit_goal is not None and episodes >= _WRITTEN:
        met[f"{case.limit_goal:.0%} of limit"] = floor / mine >= case.limit_goal
    if case.mb_goal is not None:
        met[f"{case.mb_goal:.0f} MB"] = most <= case.mb_goal
    return [
        f"{case.name}: {case.layout} {case.size[0]}x{case.size[1]}",
        episodes,
        harness.ranged([run.cpu for run in ours]),
        harness.ranged([run.cpu for run in peer]),
        harness.ranged([run.warm for run in peer]),
        theirs / mine,
        warm / mine,
        harness.ranged([run.wall for run in ours]),
        harness.ranged([run.wall for run in peer]),
        wall,
        harness.ranged(floors),
        f"{floor / mine:.0%}",
        most,
        max(run.mb for run in peer),
        ", ".join(f"{goal} {'met' if good else 'MISSED'}" for goal, good in met.items()) or None,
    ]


def _measured(run: Any) -> Measured:
    assert isinstance(run, Measured)
    return run


def _ours(rollouts: Path, out: Path, *, workers: int, count: bool) -> Measured:
    command = [sys.executable, "-m", "vla_data", "build", "ppo_sft_aligned"]
    command += ["--input", str(rollouts), "--data-dir", str(out)]
    command += ["--min-success-steps", "6", "--workers", str(workers), "--json"]
    run = harness.run_command(command)
    if not run.ok:
        raise RuntimeError(f"vla_data build ended with exit code {run.exit_code}:\n{run.error()}")
    frames = rl4vla_tfds.count_frames(out)["frames"] if count else 0
    shutil.rmtree(out)
    return Measured(run.cpu_seconds, run.seconds, run.cpu_seconds, run.pss_mb, frames)


def _peer(rollouts: Path, out: Path) -> Measured:
    result = rl4vla_tfds.build(rollouts, out)
    shutil.rmtree(out)
    cpu, wall = result["cpu_with_startup"], result["wall_seconds"]
    return Measured(cpu, wall, result["cpu_seconds"], result["pss_mb"], result["frames_out"])


def write(case: Case, counts: Sequence[int], folder: Path, workers: int) -> dict[int, Path]:
    """A folder of rollouts for each of some numbers of episodes."""
    written = folder / "rollouts"
    files = write_rollouts(
        written,
        episodes=min(max(counts), _WRITTEN),
        size=case.size,
        layout=case.layout,
        steps=_STEPS,
        workers=workers,
    )
    out = {}
    for count in counts:
        out[count] = folder / f"rollouts{count}"
        out[count].mkdir()
        for number in range(count):
            file = files[number % len(files)]
            again = number // len(files)
            os.link(file, out[count] / (f"{file.stem}_{again}{file.suffix}" if again else file.name))
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--episodes", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="our processes, and the limit's cores")
    parser.add_argument("--case", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--temp", type=Path, help="where the files go meanwhile, 3 GB for 64 episodes")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    options = parser.parse_args(arguments)
    machine, rows = harness.machine(*_PACKAGES), []
    for case in CASES:
        if options.case and case.name not in options.case:
            continue
        with tempfile.TemporaryDirectory(prefix="vla-data-p1-", dir=options.temp) as name:
            for count, rollouts in write(case, options.episodes, Path(name), options.workers).items():
                try:
                    row = measure(
                        case,
                        rollouts,
                        count,
                        repeats=options.repeats,
                        workers=options.workers,
                        folder=Path(name),
                    )
                except RuntimeError as error:
                    print(f"{case.name}: {error}", file=sys.stderr)
                    return 1
                rows.append(row)
                print(harness.table([dict(zip(_COLUMNS, row, strict=True))]), flush=True)
                if options.output:
                    content = {"machine": machine, "tables": [asdict(Table(_COLUMNS, rows))]}
                    harness.write_json(options.output, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
