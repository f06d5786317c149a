"""P3 and P4: rollouts to a LeRobot dataset, `vla_data align` against lerobot's own writer.

    python -m benchmarks.p3_rollouts_to_lerobot --episodes 8 --lerobot-python LEROBOT_VENV/bin/python

Both sides read the same files, in turn, and write image features (P3) or video (P4) at the same crf, GOP and
preset. Ours is the whole command. The peer is given as a whole and, as "warm", from when lerobot is imported and
its empty dataset created. Quality is PSNR of some frames against the source, in RGB: a row whose sides are further
apart than 0.1 dB, ours being worse, says MISSED. JPEG, which is lossy, stands beside the peer's lossless images in
a table of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import av

from benchmarks import harness
from benchmarks.episodes import write_rollouts
from benchmarks.lerobot_quality import Source, inspect, source_of
from benchmarks.results import Cell, Table

_PACKAGES = ("numpy", "pillow", "simplejpeg", "isal", "deflate", "pyarrow", "av")
_PEER = harness.REPOSITORY / "benchmarks" / "peers" / "lerobot_writer.py"
_RESULT_MARK = "benchmark-result: "
_SIZE = (480, 640)
_COMPARED = 4
"""Episodes of which a few frames are compared with the source."""
_PSNR_SLACK = 0.1
"""dB that we may be below the peer and still count as equal."""
_COLUMNS = (
    *("output", "episodes", "peer", "ours, CPU s", "peer, CPU s", "warm, CPU s", "CPU ratio", "ratio to warm"),
    *("ours, s", "peer, s", "wall ratio", "ours / peer, dB", "ours / peer, MB out", "ours, MB", "peer, MB"),
    "goals",
)


@dataclass(frozen=True, slots=True)
class Case:
    """How we write, the peer's modes beside it, the fastest first, and the ratio to it as a whole to reach."""

    name: str
    ours: tuple[str, ...]
    modes: tuple[str, ...]
    goal: float | None = None


MODES: Mapping[str, Mapping[str, Any]] = {
    "images": {},
    "images 4 threads": {"threads": 4},
    "images 5x10 threads": {"processes": 5, "threads": 10},
    "av1": {"video": "libsvtav1"},
    "av1 4 threads": {"video": "libsvtav1", "threads": 4},
    "av1 streaming": {"video": "libsvtav1", "streaming": True},
    "h264": {"video": "h264"},
    "h264 4 threads": {"video": "h264", "threads": 4},
    "h264 streaming": {"video": "h264", "streaming": True},
    "h264 ultrafast streaming": {"video": "h264", "streaming": True, "preset": "ultrafast"},
}
_IMAGES = ("images 5x10 threads", "images 4 threads", "images")


def _video(codec: str, preset: str) -> tuple[str, ...]:
    return ("--video", codec, "--crf", "30", "--gop", "2", "--preset", preset)


# lerobot's defaults: crf 30, a key frame every second frame; preset 12 for SVT-AV1 and x264's own for H.264.
CASES = (
    Case("P3-png", ("--images", "png"), _IMAGES, goal=14.0),
    Case("P4-av1", _video("av1", "12"), ("av1 streaming", "av1 4 threads", "av1"), goal=1.9),
    Case("P4-h264", _video("h264", "medium"), ("h264 streaming", "h264 4 threads", "h264"), goal=1.8),
    Case("P4-ultrafast", _video("h264", "ultrafast"), ("h264 ultrafast streaming",), goal=5.0),
    Case("P3-jpeg", ("--images", "jpeg"), _IMAGES, goal=30.0),
)
_LOSSY = ("P3-jpeg",)


@dataclass(slots=True)
class Side:
    """What the repeats of one command gave; `quality` is of the first one's output."""

    cpu: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    mb: list[float] = field(default_factory=list)
    quality: dict[str, Any] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    lacks: str = ""

    def take(self, run: harness.Run, startup_cpu: float) -> None:
        """One more repeat."""
        self.cpu.append(run.cpu_seconds)
        self.warm.append(run.cpu_seconds - startup_cpu)
        self.wall.append(run.seconds)
        self.mb.append(run.pss_mb)


def measure(
    cases: Sequence[Case], *, episodes: int, steps: int, repeats: int, workers: int, python: str, folder: Path
) -> tuple[list[tuple[str, list[Cell]]], dict[str, str]]:
    rollouts = folder / "rollouts"
    files = write_rollouts(rollouts, episodes=episodes, size=_SIZE, steps=steps, workers=workers)
    sources = [source_of(path) for path in files[:: max(1, episodes // _COMPARED)][:_COMPARED]]
    ours = {case.name: Side() for case in cases}
    peers = {mode: Side() for case in cases for mode in case.modes}
    sides = {}
    for case in cases:  # a mode that two cases name runs once a round
        sides[case.name] = partial(_run_ours, ours[case.name], case, rollouts, folder / "out", workers=workers)
        for mode in case.modes:
            sides.setdefault(mode, partial(_run_peer, peers[mode], mode, rollouts, folder, python))

    def run(name: str, repeat: int) -> None:
        side = ours[name] if name in ours else peers[name]
        sides[name](repeat)
        if not side.lacks:
            _inspect(side, folder / "out", sources, episodes * steps, repeat)

    harness.alternate({name: partial(run, name) for name in sides}, repeats=repeats)
    rows = [
        (case.name, _row(case, episodes, ours[case.name], mode, peers[mode], i == 0))
        for case in cases
        for i, mode in enumerate(case.modes)
        if not peers[mode].lacks
    ]
    return rows, next((side.packages for side in peers.values() if side.packages), {})


def _run_ours(side: Side, case: Case, rollouts: Path, out: Path, _repeat: int, *, workers: int) -> None:
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "vla_data", "align", str(rollouts), str(out)]
    command += ["--min-success-steps", "0", "--pos-thresh", "none", "--rot-thresh", "none"]
    run = harness.run_command([*command, "--workers", str(workers), "--json", *case.ours])
    if not run.ok:
        raise RuntimeError(f"vla_data align ended with exit code {run.exit_code}:\n{run.error()}")
    side.take(run, 0.0)


def _run_peer(side: Side, mode: str, rollouts: Path, folder: Path, python: str, _repeat: int) -> None:
    """Run the peer once, or note what this lerobot lacks for `mode`."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    arguments = {"rollouts": str(rollouts), "out": str(out), "mode": MODES[mode]}
    run = harness.run_command([python, str(_PEER), json.dumps(arguments)], env={"HF_HOME": str(folder / "hf")})
    lines = [line for line in run.stdout.splitlines() if line.startswith(_RESULT_MARK)]
    if not run.ok or not lines:
        raise RuntimeError(f"lerobot ({mode}) ended with exit code {run.exit_code}:\n{run.error()}")
    result = json.loads(lines[-1].removeprefix(_RESULT_MARK))
    side.packages = result["packages"]
    side.lacks = result.get("missing", "")
    if not side.lacks:
        side.take(run, result["startup_cpu"])


def _inspect(side: Side, out: Path, sources: Sequence[Source], images: int, repeat: int) -> None:
    """Delete the dataset `out`, after a look at what it holds on the first repeat."""
    if repeat == 0:
        side.quality = inspect(out, sources, images)
    shutil.rmtree(out)


def _row(case: Case, episodes: int, ours: Side, mode: str, peer: Side, judged: bool) -> list[Cell]:
    ratio, warm, wall = (
        harness.median(theirs) / harness.median(mine)
        for theirs, mine in ((peer.cpu, ours.cpu), (peer.warm, ours.cpu), (peer.wall, ours.wall))
    )
    met = {f"{case.goal:g}x": ratio >= case.goal} if judged and case.goal is not None else {}
    if case.name not in _LOSSY:
        met["quality"] = is_as_good(ours.quality, peer.quality)
    return [
        f"{case.name}: {' '.join(case.ours)}",
        episodes,
        mode,
        *(harness.ranged(values) for values in (ours.cpu, peer.cpu, peer.warm)),
        ratio,
        warm,
        *(harness.ranged(values) for values in (ours.wall, peer.wall)),
        wall,
        f"{_decibels(ours.quality)} / {_decibels(peer.quality)}",
        f"{ours.quality['media_mb']:.1f} / {peer.quality['media_mb']:.1f}",
        max(ours.mb),
        max(peer.mb),
        ", ".join(f"{goal} {'met' if good else 'MISSED'}" for goal, good in met.items()) or None,
    ]


def is_as_good(ours: Mapping[str, Any], peer: Mapping[str, Any]) -> bool:
    """Whether our images are no worse than the peer's, by their PSNR; lossless is as good as lossless alone."""
    if ours["lossless"] or peer["lossless"]:
        return bool(ours["lossless"])
    return bool(ours["psnr"] >= peer["psnr"] - _PSNR_SLACK)


def _decibels(quality: Mapping[str, Any]) -> str:
    return "lossless" if quality["lossless"] else f"{quality['psnr']:.2f}" if quality["psnr"] else "mixed"


def tables(rows: Sequence[tuple[str, list[Cell]]], packages: Mapping[str, str]) -> list[Table]:
    """Rows of equal quality, and those of unlike kinds apart."""
    theirs = packages.get("av")
    note = f"lerobot {packages.get('lerobot', '?')}, av {av.__version__} here and {theirs} there"
    if theirs != av.__version__:
        note += ": other encoders, so other sizes and PSNR"
    found = [
        Table(_COLUMNS, [row for name, row in rows if name not in _LOSSY], "Like for like", f"{note}."),
        Table(
            _COLUMNS,
            [row for name, row in rows if name in _LOSSY],
            "Not like for like: our JPEG, which is lossy, beside lossless PNG",
        ),
    ]
    return [table for table in found if table.rows]


def main(arguments: Sequence[str] | None = None) -> int:
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lerobot-python", default=os.environ.get("LEROBOT_PYTHON"), help="or LEROBOT_PYTHON")
    parser.add_argument("--episodes", type=int, nargs="+", default=[8])
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="our processes")
    parser.add_argument("--fastest", action="store_true", help="of the peer's modes the fastest alone")
    parser.add_argument("--case", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--temp", type=Path, help="where the files go meanwhile, 3 GB for 64 episodes")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    options = parser.parse_args(arguments)
    if not options.lerobot_python:
        parser.error("name an interpreter that has lerobot, with --lerobot-python or LEROBOT_PYTHON")
    cases = [case for case in CASES if not options.case or case.name in options.case]
    if options.fastest:
        cases = [Case(case.name, case.ours, case.modes[:1], case.goal) for case in cases]
    machine = harness.machine(*_PACKAGES)
    rows: list[tuple[str, list[Cell]]] = []
    for episodes in options.episodes:
        with tempfile.TemporaryDirectory(prefix="vla-data-p3-", dir=options.temp) as folder:
            try:
                more, packages = measure(
                    cases,
                    episodes=episodes,
                    steps=options.steps,
                    repeats=options.repeats,
                    workers=options.workers,
                    python=options.lerobot_python,
                    folder=Path(folder),
                )
            except RuntimeError as error:
                print(error, file=sys.stderr)
                return 1
        rows += more
        print(harness.table([dict(zip(_COLUMNS, row, strict=True)) for _, row in more]), flush=True)
        if options.output:
            found = [asdict(table) for table in tables(rows, packages)]
            harness.write_json(options.output, {"machine": machine, "tables": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
