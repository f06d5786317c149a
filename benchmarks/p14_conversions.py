"""P14: HDF5 and RLDS to LeRobot, `vla-data convert` against openpi's way and any4lerobot's way.

    python -m benchmarks.p14_conversions --lerobot-python PYTHON [--short]

PYTHON has lerobot, h5py, TensorFlow and TFDS; the peers' steps are in `benchmarks/peers/lerobot_conversions.py`.
Both sides read the same files: LIBERO's layout at 128x128, and RLDS with JPEG at 256x256, two cameras each. Ours
also keeps the other features, computes exact statistics of them, writes checksums and a ledger, and reads all
of it back; its figure is the whole command from start to exit. The peer's time begins when everything is imported.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks import harness
from benchmarks.demos import CAMERAS, DECLARED, FPS, write_demos

_PEER = harness.REPOSITORY / "benchmarks/peers/lerobot_conversions.py"
_RESULT_MARK = "benchmark-result: "
# lerobot's own defaults for video, given to both sides.
_AV1 = ("--video", "av1", "--crf", "30", "--gop", "2", "--preset", "12")


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison: which files, how the peer goes, what we write."""

    name: str
    source: str
    way: str
    video: bool
    ours: tuple[str, ...]


CASES = (
    Case("HDF5, PNG", "hdf5", "any4lerobot_hdf5", False, ("--images", "png")),
    Case("HDF5, video", "hdf5", "any4lerobot_hdf5", True, _AV1),
    Case("RLDS, JPEG kept", "rlds", "openpi_rlds", False, ("--images", "jpeg")),
    Case("RLDS, PNG", "rlds", "openpi_rlds", False, ("--images", "png")),
    Case("RLDS, JPEG kept", "rlds", "any4lerobot_rlds", False, ("--images", "jpeg")),
    Case("RLDS, video", "rlds", "any4lerobot_rlds", True, _AV1),
)


def prepare(folder: Path, *, files: int, demos: int, steps: int) -> dict[str, Path]:
    """The sources: HDF5 files, and an RLDS dataset of as many other episodes."""
    write_demos(folder / "hdf5", files=files, demos=demos, size=128, steps=steps)
    write_demos(folder / "large", files=files, demos=demos, size=256, steps=steps, seed=1)
    _convert(folder / "large", folder / "rlds", "--to", "rlds", *DECLARED)
    shutil.rmtree(folder / "large")
    return {"hdf5": folder / "hdf5", "rlds": _one_split(folder / "rlds")}


def _one_split(folder: Path) -> Path:
    """All episodes in ``train``, which is what the peers read, without our sidecar."""
    shutil.rmtree(folder / "vla_data")
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    lengths = [n for split in info["splits"] for n in split["shardLengths"]]
    size = sum(int(split["numBytes"]) for split in info["splits"])
    shards = sorted(folder.glob("*.tfrecord*"), key=lambda file: "-val." in file.name)
    for i, shard in enumerate(shards):
        stem = shard.name.partition("-")[0]
        shard.rename(folder / f"{stem}-train.tfrecord-{i:05d}-of-{len(shards):05d}")
    info["splits"] = [{**info["splits"][0], "name": "train", "shardLengths": lengths, "numBytes": str(size)}]
    path.write_text(json.dumps(info))
    return folder


def _convert(source: Path, out: Path, *options: str) -> harness.Run:
    shutil.rmtree(out, ignore_errors=True)
    run = harness.run_command([sys.executable, "-m", "vla_data", "convert", str(source), str(out), *options])
    if not run.ok:
        raise SystemExit(run.error())
    return run


def run_ours(case: Case, source: Path, out: Path, frames: int, _repeat: int) -> Mapping[str, Any]:
    """Seconds and peak memory of the whole command."""
    declared = DECLARED if case.source == "hdf5" else ("--fps", str(FPS))
    run = _convert(source, out, *case.ours, *declared)
    return {"seconds": run.seconds, "mb": run.peak_tree_mb, **_look(out, frames)}


def run_peer(case: Case, source: Path, out: Path, python: str, frames: int, _repeat: int) -> Mapping[str, Any]:
    """Seconds without imports, and peak memory."""
    shutil.rmtree(out, ignore_errors=True)
    words = {"way": case.way, "source": str(source), "out": str(out), "video": case.video, "fps": FPS}
    run = harness.run_command([python, str(_PEER), json.dumps(words)], env={"HF_HOME": f"{out}_hf"})
    lines = [line for line in run.stdout.splitlines() if line.startswith(_RESULT_MARK)]
    if not run.ok or not lines:
        raise SystemExit(run.error())
    result = json.loads(lines[-1].removeprefix(_RESULT_MARK))
    return {**result, "wall": run.seconds, "mb": run.peak_tree_mb, **_look(out, frames)}


def _look(out: Path, frames: int) -> dict[str, Any]:
    """That every frame is there, and how large the dataset is."""
    rows = sum(pq.read_metadata(file).num_rows for file in (out / "data").rglob("*.parquet"))
    info = json.loads((out / "meta/info.json").read_text())
    cameras = [name for name in info["features"] if name.startswith("observation.images.")]
    if rows != frames or len(cameras) != len(CAMERAS):
        raise SystemExit(f"{out.name} holds {rows} rows of {len(cameras)} cameras, expected {frames} of 2")
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return {"size_mb": size / 1e6}


def measure(sources: Mapping[str, Path], folder: Path, *, frames: int, repeats: int, python: str) -> list[Any]:
    """A row for each case."""
    rows = []
    for case in CASES:
        source, out = sources[case.source], folder / "out"
        sides = {
            "ours": partial(run_ours, case, source, out, frames),
            "peer": partial(run_peer, case, source, out, python, frames),
        }
        done = harness.alternate(sides, repeats=repeats)
        ours, peer = ([one["seconds"] for one in done[side]] for side in ("ours", "peer"))
        rows.append(
            {
                "case": case.name,
                "peer": case.way.partition("_")[0],
                "ours s": harness.median(ours),
                "peer s": harness.median(peer),
                "ratio": harness.median(peer) / harness.median(ours),
                "with its start-up": harness.median(one["wall"] for one in done["peer"]) / harness.median(ours),
                "ours img/s": frames * len(CAMERAS) / harness.median(ours),
                "ours MB": max(one["mb"] for one in done["ours"]),
                "peer MB": max(one["mb"] for one in done["peer"]),
                "ours size MB": done["ours"][0]["size_mb"],
                "peer size MB": done["peer"][0]["size_mb"],
                "spread": f"{harness.spread(ours):.0%} {harness.spread(peer):.0%}",
            }
        )
        print(harness.table(rows[-1:]), flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lerobot-python", default=os.environ.get("LEROBOT_PYTHON"), help="or LEROBOT_PYTHON")
    parser.add_argument("--short", action="store_true", help="8 episodes of 40 steps, once")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    if not options.lerobot_python:
        parser.error("name an interpreter that has lerobot, with --lerobot-python or LEROBOT_PYTHON")
    files, demos, steps = (2, 4, 40) if options.short else (4, 8, 100)
    machine = harness.machine("numpy", "pillow", "simplejpeg", "pyarrow", "av", "h5py")
    with tempfile.TemporaryDirectory(prefix="vla-data-p14-") as root:
        sources = prepare(Path(root), files=files, demos=demos, steps=steps)
        frames = files * demos * steps
        repeats = options.repeats or (1 if options.short else 3)
        rows = measure(sources, Path(root), frames=frames, repeats=repeats, python=options.lerobot_python)
    print(f"\n{files * demos} episodes, {frames} frames of 2 cameras, {repeats} x\n{harness.table(rows)}")
    if options.output:
        harness.write_json(options.output, {"machine": machine, "frames": frames, "rows": rows})


if __name__ == "__main__":
    main()
