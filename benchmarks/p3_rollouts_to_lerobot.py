"""P3 and P4: rollouts to a LeRobot dataset, `vla_data align` against lerobot's own writer.

    python -m benchmarks.p3_rollouts_to_lerobot --short --lerobot-python LEROBOT_VENV/bin/python

Both sides read the same files and write image features (P3) or video (P4) at the same crf, GOP and preset. Speed
is source images read a second. Ours is the whole command. The peer's time begins when lerobot is imported and its
empty dataset created; its figure with that start-up is printed beside it.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image

from benchmarks import harness
from benchmarks.episodes import Pixels, write_rollouts

_PACKAGES = ("numpy", "pillow", "simplejpeg", "isal", "deflate", "pyarrow", "av")
_PEER = harness.REPOSITORY / "benchmarks" / "peers" / "lerobot_writer.py"
_RESULT_MARK = "benchmark-result: "
_CAMERA = "observation.images.primary"
_SIZE = (480, 640)
_COMPARED = 4
"""Episodes of which a few frames are compared with the source."""
_PSNR_SLACK = 0.1
"""dB that we may be below the peer and still count as equal."""


@dataclass(frozen=True, slots=True)
class Case:
    """How we write, the peer's modes it is held against, and the ratio to its fastest that we want.

    `judged` are the modes that the goal is about; the others are printed with them.
    """

    name: str
    ours: tuple[str, ...]
    modes: tuple[str, ...]
    judged: tuple[str, ...]
    ratio_goal: float | None = None
    equal_quality: bool = False


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run the peer; `full` ones are left out of --short."""

    settings: Mapping[str, Any]
    full: bool = False


MODES = {
    "images": Mode({}),
    "images 4 threads": Mode({"threads": 4}),
    "images 5x10 threads": Mode({"processes": 5, "threads": 10}, full=True),
    "av1": Mode({"video": "libsvtav1"}),
    "av1 4 threads": Mode({"video": "libsvtav1", "threads": 4}),
    "av1 streaming": Mode({"video": "libsvtav1", "streaming": True}),
    "h264": Mode({"video": "h264"}),
    "h264 4 threads": Mode({"video": "h264", "threads": 4}),
    "h264 streaming": Mode({"video": "h264", "streaming": True}),
    "h264 ultrafast streaming": Mode({"video": "h264", "streaming": True, "preset": "ultrafast"}),
}
_IMAGES = ("images", "images 4 threads", "images 5x10 threads")
_AV1 = ("av1", "av1 4 threads", "av1 streaming")
_H264 = ("h264", "h264 4 threads", "h264 streaming")
_ULTRAFAST = ("h264 ultrafast streaming",)


def _video(codec: str, preset: str) -> tuple[str, ...]:
    return ("--video", codec, "--crf", "30", "--gop", "2", "--preset", preset)


# lerobot's defaults: crf 30, a key frame every second frame; preset 12 for SVT-AV1 and x264's own for H.264.
CASES = (
    Case("P3-jpeg", ("--images", "jpeg"), _IMAGES, _IMAGES, ratio_goal=50.0),
    Case("P3-png", ("--images", "png"), _IMAGES, _IMAGES, ratio_goal=20.0, equal_quality=True),
    Case("P4-av1", _video("av1", "12"), _AV1, ("av1 streaming",), ratio_goal=1.8, equal_quality=True),
    Case("P4-h264", _video("h264", "medium"), _H264, ("h264 streaming",), ratio_goal=1.8, equal_quality=True),
    Case(
        "P4-ultrafast",
        _video("h264", "ultrafast"),
        (*_ULTRAFAST, "h264 streaming", "av1 streaming"),
        _ULTRAFAST,
        ratio_goal=5.0,
        equal_quality=True,
    ),
)


@dataclass(slots=True)
class Side:
    """What the repeats of one command gave; `quality` is of the first one's output."""

    seconds: list[float] = field(default_factory=list)
    wall_seconds: list[float] = field(default_factory=list)
    startup_seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    quality: dict[str, Any] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)

    def as_dict(self, images: int) -> dict[str, Any]:
        startup = harness.median(self.startup_seconds)
        worked = harness.median(self.wall_seconds) - startup
        return {
            "fps": images / harness.median(self.seconds),
            "fps_with_startup": images / harness.median(self.wall_seconds),
            "fps_without_startup": images / worked if worked > 0 else None,
            "startup_seconds": startup,
            "seconds": self.seconds,
            "wall_seconds": self.wall_seconds,
            "spread": harness.spread(self.seconds),
            "peak_tree_mb": max(self.peak_mb),
            **self.quality,
        }


@dataclass(frozen=True, slots=True)
class Source:
    """Frames of one rollout to compare with, and its actions, by which it is found again in a dataset."""

    actions: npt.NDArray[np.float32]
    frames: Mapping[int, Pixels]


def measure(
    cases: Sequence[Case],
    *,
    episodes: int,
    steps: int,
    repeats: int,
    workers: int,
    full: bool,
    python: str,
    folder: Path,
) -> dict[str, Any]:
    """Write the rollouts into `folder`, run every side on them in turn, and judge the cases."""
    rollouts, tiny = folder / "rollouts", folder / "tiny"
    files = write_rollouts(rollouts, episodes=episodes, size=_SIZE, steps=steps, workers=workers)
    # As many small episodes as workers, so that the start-up measured includes theirs.
    write_rollouts(tiny, episodes=workers, size=(64, 64), steps=2)
    sources = [_source(path) for path in files[:: max(1, episodes // _COMPARED)][:_COMPARED]]
    images = episodes * steps
    modes = list(dict.fromkeys(mode for case in cases for mode in case.modes if full or not MODES[mode].full))
    ours = {case.name: Side() for case in cases}
    peers = {mode: Side() for mode in modes}
    missing: dict[str, str] = {}

    def run_ours(case: Case, repeat: int) -> None:
        _run_ours(ours[case.name], case, rollouts, tiny, folder / "out", workers=workers)
        _inspect(ours[case.name], folder / "out", sources, images, repeat)

    def run_peer(mode: str, repeat: int) -> None:
        lacks = _run_peer(peers[mode], mode, rollouts, folder, python)
        if lacks:
            missing[mode] = lacks
            return
        _inspect(peers[mode], folder / "out", sources, images, repeat)

    sides = {}
    waiting = iter(modes)
    for i, case in enumerate(cases):
        sides[f"ours {case.name}"] = partial(run_ours, case)
        # The peer's modes are spread evenly between our cases.
        for mode in [*waiting] if i == len(cases) - 1 else _take(waiting, math.ceil(len(modes) / len(cases))):
            sides[f"peer {mode}"] = partial(run_peer, mode)
    harness.alternate(sides, repeats=repeats)
    done = {mode: side for mode, side in peers.items() if mode not in missing}
    result = {
        "episodes": episodes,
        "steps": steps,
        "images": images,
        "size": list(_SIZE),
        "input_mb": sum(file.stat().st_size for file in files) / 1e6,
        "repeats": repeats,
        "workers": workers,
        "our_av": av.__version__,
        "ours": {name: side.as_dict(images) for name, side in ours.items()},
        "peer": {mode: side.as_dict(images) for mode, side in done.items()},
        "peer_packages": next((side.packages for side in done.values()), {}),
        "peer_lacks": missing,
    }
    result["cases"] = [_verdict(case, result) for case in cases]
    return result


def _take(items: Iterator[str], count: int) -> list[str]:
    return [item for _, item in zip(range(count), items, strict=False)]


def _run_ours(side: Side, case: Case, rollouts: Path, tiny: Path, out: Path, *, workers: int) -> None:
    options = ["--min-success-steps", "0", "--pos-thresh", "none", "--rot-thresh", "none"]
    options += ["--workers", str(workers), "--json", *case.ours]
    for source, seconds in ((tiny, side.startup_seconds), (rollouts, side.seconds)):
        shutil.rmtree(out, ignore_errors=True)
        run = harness.run_command([sys.executable, "-m", "vla_data", "align", str(source), str(out), *options])
        if not run.ok:
            raise RuntimeError(f"vla_data align ended with exit code {run.exit_code}:\n{run.error()}")
        seconds.append(run.seconds)
    side.wall_seconds.append(run.seconds)
    side.peak_mb.append(run.peak_tree_mb)


def _run_peer(side: Side, mode: str, rollouts: Path, folder: Path, python: str) -> str | None:
    """Run the peer once; returns what this lerobot lacks for `mode`, if anything."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    arguments = {"rollouts": str(rollouts), "out": str(out), "mode": MODES[mode].settings}
    run = harness.run_command([python, str(_PEER), json.dumps(arguments)], env={"HF_HOME": str(folder / "hf")})
    lines = [line for line in run.stdout.splitlines() if line.startswith(_RESULT_MARK)]
    if not run.ok or not lines:
        raise RuntimeError(f"lerobot ({mode}) ended with exit code {run.exit_code}:\n{run.error()}")
    result = json.loads(lines[-1].removeprefix(_RESULT_MARK))
    side.packages = result["packages"]
    if "missing" in result:
        return str(result["missing"])
    side.seconds.append(result["seconds"])
    side.wall_seconds.append(run.seconds)
    side.startup_seconds.append(run.seconds - result["seconds"])
    side.peak_mb.append(run.peak_tree_mb)
    return None


def _inspect(side: Side, out: Path, sources: Sequence[Source], images: int, repeat: int) -> None:
    """Delete the dataset `out`, after a look at what it holds on the first repeat."""
    if repeat == 0:
        side.quality = inspect(out, sources, images)
    shutil.rmtree(out)


def inspect(out: Path, sources: Sequence[Source], images: int) -> dict[str, Any]:
    """Size and PSNR of the dataset `out`; a lost frame or an episode that is not there is an error."""
    columns = ["episode_index", "frame_index", "action"]
    files = sorted((out / "data").rglob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file, columns=columns).to_pylist()]
    if len(rows) != images:
        raise RuntimeError(f"{out.name} holds {len(rows)} rows, expected {images}")
    actions = np.asarray([row["action"] for row in rows], dtype=np.float32)
    starts = [i for i, row in enumerate(rows) if row["frame_index"] == 0]
    wanted: dict[int, Pixels] = {}
    for source in sources:
        found = [at for at in starts if np.array_equal(actions[at : at + len(source.actions)], source.actions)]
        if len(found) != 1:
            raise RuntimeError(f"an episode is {len(found)} times in {out.name}, expected once")
        wanted.update({found[0] + t: frame for t, frame in source.frames.items()})
    count, values = 0, []
    for number, pixels in _frames(out, files, wanted):
        count += 1
        if pixels is not None:
            values.append(psnr(wanted[number], pixels))
    if count != images or len(values) != len(wanted):
        raise RuntimeError(f"{out.name} holds {count} images, expected {images}")
    media = [file for file in out.rglob("*") if file.suffix in (".parquet", ".mp4") and "meta" not in file.parts]
    return {
        "psnr": None if math.inf in values else float(np.mean(values)),
        "psnr_worst": None if math.inf in values else min(values),
        "lossless": all(value == math.inf for value in values),
        "compared_frames": len(values),
        "media_mb": sum(file.stat().st_size for file in media) / 1e6,
        "dataset_mb": sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6,
    }


def _frames(out: Path, data: Sequence[Path], wanted: Mapping[int, Pixels]) -> Iterator[tuple[int, Pixels | None]]:
    """Every image of a dataset with its number, in order; decoded where it is wanted."""
    number = 0
    videos = sorted((out / "videos").rglob("*.mp4"))
    for path in videos:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield number, frame.to_ndarray(format="rgb24") if number in wanted else None
                number += 1
    for path in () if videos else data:
        for batch in pq.ParquetFile(path).iter_batches(64, columns=[_CAMERA]):
            for item in batch.column(0).to_pylist():
                with Image.open(io.BytesIO(item["bytes"])) as image:
                    yield number, np.asarray(image.convert("RGB")) if number in wanted else None
                number += 1


def psnr(a: Pixels, b: Pixels) -> float:
    """Over all three RGB channels; infinite where they are equal."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _source(path: Path) -> Source:
    with np.load(path, allow_pickle=True) as archive:  # written by ourselves a moment ago
        content = archive["arr_0"].item()
    actions = np.asarray(content["action"], dtype=np.float32)
    chosen = (0, len(actions) // 2, len(actions) - 1)
    return Source(actions, {t: np.asarray(content["image"][t]) for t in chosen})


def _verdict(case: Case, result: Mapping[str, Any]) -> dict[str, Any]:
    ours = result["ours"][case.name]
    peers = {mode: result["peer"][mode] for mode in case.modes if mode in result["peer"]}
    # Without the streaming encoder the goal is about the fastest mode that there is.
    judged = {mode: peers[mode] for mode in case.judged if mode in peers} or peers
    best = max(judged, key=lambda mode: judged[mode]["fps"])
    met: dict[str, bool] = {}
    ratio = ours["fps"] / judged[best]["fps"]
    if case.ratio_goal is not None:
        met["ratio"] = ratio >= case.ratio_goal
    if case.equal_quality:
        met["quality"] = _as_good(ours, judged[best])
    bare = (ours["fps_without_startup"], judged[best]["fps_without_startup"])
    return {
        "case": case.name,
        "against": best,
        "ratio": ratio,
        "ratio_goal": case.ratio_goal,
        "ratio_without_startup": bare[0] / bare[1] if all(bare) else None,
        "ratio_with_startup": ours["fps_with_startup"] / judged[best]["fps_with_startup"],
        "ratios": {mode: ours["fps"] / peer["fps"] for mode, peer in peers.items()},
        "met": met,
    }


def _as_good(ours: Mapping[str, Any], peer: Mapping[str, Any]) -> bool:
    if ours["lossless"] or peer["lossless"]:
        return bool(ours["lossless"])
    return bool(ours["psnr"] >= peer["psnr"] - _PSNR_SLACK)


def report(result: Mapping[str, Any]) -> str:
    """The sides of every case as a table, and a line on its goals."""
    height, width = result["size"]
    lines = [
        f"{result['episodes']} planner episodes of {result['steps']} steps, {result['images']} images"
        f" {height}x{width}, {result['input_mb']:.0f} MB, {result['repeats']} x, lerobot"
        f" {result['peer_packages'].get('lerobot', '?')}"
    ]
    lines += [f"lerobot has no {what}: {mode} left out" for mode, what in result["peer_lacks"].items()]
    peer_av = result["peer_packages"].get("av")
    if peer_av != result["our_av"]:
        lines.append(f"av is {result['our_av']} here and {peer_av} there: other encoders, so other sizes and PSNR")
    cases = {case.name: case for case in CASES}
    for verdict in result["cases"]:
        case = cases[verdict["case"]]
        rows = [_row("ours", " ".join(case.ours), result["ours"][case.name], None)]
        for mode, ratio in verdict["ratios"].items():
            rows.append(_row("peer", mode, result["peer"][mode], ratio))
        bare = verdict["ratio_without_startup"]
        neither = f"{bare:.2f}" if bare else "-"
        lines += [
            "",
            case.name,
            harness.table(rows),
            f"ratio to {verdict['against']!r}: {verdict['ratio']:.2f}, goal {verdict['ratio_goal']} (start-up"
            f" counted on both sides: {verdict['ratio_with_startup']:.2f}, on neither: {neither})",
            "goals: " + ", ".join(f"{goal} {'met' if ok else 'MISSED'}" for goal, ok in verdict["met"].items()),
        ]
    return "\n".join(lines)


def _row(side: str, mode: str, figures: Mapping[str, Any], ratio: float | None) -> dict[str, object]:
    quality = "lossless" if figures["lossless"] else f"{figures['psnr']:.2f}" if figures["psnr"] else "mixed"
    return {
        "side": side,
        "mode": mode,
        "fps": figures["fps"],
        "with start-up": figures["fps_with_startup"],
        "start-up s": figures["startup_seconds"],
        "spread": f"{figures['spread']:.0%}",
        "peak MB": figures["peak_tree_mb"],
        "media MB": figures["media_mb"],
        "PSNR dB": quality,
        "ours / it": ratio,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lerobot-python", default=os.environ.get("LEROBOT_PYTHON"), help="or LEROBOT_PYTHON")
    parser.add_argument("--short", action="store_true", help="4 episodes of 40 steps, 1 repeat, under 4 minutes")
    parser.add_argument("--episodes", type=int, help="default 16, short 4")
    parser.add_argument("--steps", type=int, help="default 80, short 40")
    parser.add_argument("--repeats", type=int, help="default 3, short 1")
    parser.add_argument("--workers", type=int, default=2, help="our processes")
    parser.add_argument("--case", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--temp", type=Path, help="where the files go meanwhile, 2 GB in the full mode")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    options = parser.parse_args(arguments)
    if not options.lerobot_python:
        parser.error("name an interpreter that has lerobot, with --lerobot-python or LEROBOT_PYTHON")
    machine = harness.machine(*_PACKAGES)
    print(json.dumps(machine), flush=True)
    with tempfile.TemporaryDirectory(prefix="vla-data-p3-", dir=options.temp) as folder:
        try:
            result = measure(
                [case for case in CASES if not options.case or case.name in options.case],
                episodes=options.episodes or (4 if options.short else 16),
                steps=options.steps or (40 if options.short else 80),
                repeats=options.repeats or (1 if options.short else 3),
                workers=options.workers,
                full=not options.short,
                python=options.lerobot_python,
                folder=Path(folder),
            )
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
    print(f"\n{report(result)}", flush=True)
    if options.output:
        content = {"benchmark": "rollouts_to_lerobot", "machine": machine, **result}
        harness.write_json(options.output, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
