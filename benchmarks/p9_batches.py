"""P9: random frames to batches of 32, against dlimp-style ``tf.data``, and LeRobotDataset with a DataLoader.

    python -m benchmarks.p9_batches [--lerobot-python PYTHON] [--size 224] [--kinds jpeg png h264]

The frames are 480x640, JPEG q95 unless said, and the batches uint8 at ``--size`` (0: as they are). Ours and that
of LeRobot read the same LeRobot dataset; dlimp's way reads the same episodes as RLDS. Each side makes its first
batches before the clock starts, and has a fair way of resizing: ours scales while it decodes JPEG and is then
bilinear; TensorFlow's is bilinear without antialiasing, its fastest (dlimp's own, Lanczos, is slower);
torchvision's is bilinear. dlimp shuffles in a buffer of 1,000 frames; ours and LeRobot's are of everything. Beside
the rate there is the time of processors that a frame took, which other programs on the machine change less; worker
processes of a DataLoader are not in it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH = 32
WARM = 3
REPOSITORY = Path(__file__).resolve().parent.parent
MARK = "p9: "


def clocked(batches: Iterator[Any], count: int, frames_of: Callable[[Any], int]) -> tuple[float, float]:
    """Frames a second, and milliseconds of processor time a frame, after the first batches."""
    for _ in range(WARM):
        next(batches)
    start, used = time.perf_counter(), time.process_time()
    frames = sum(frames_of(next(batches)) for _ in range(count))
    return frames / (time.perf_counter() - start), (time.process_time() - used) / frames * 1e3


def ours(folder: str, size: int, count: int, workers: int) -> tuple[float, float]:
    from vla_data.mixtures import Loader, open_mixture

    contract = {"cameras": ["primary"], **({"image_size": [size, size], "resize": "stretch"} if size else {})}
    mixture = open_mixture({"contract": contract, "datasets": [{"root": f"{folder}/lerobot", "state": []}]})
    loader = Loader(mixture, batch_size=BATCH, workers=workers)

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    return clocked(endless(), count, lambda batch: len(batch["action"]))


def packs(folder: str, size: int, count: int, workers: int) -> tuple[float, float]:
    """Ours from packs of pixels at the contract's size, which are made before."""
    from vla_data.mixtures import Loader, open_mixture

    contract = {"cameras": ["primary"], "image_size": [size, size], "resize": "stretch"}
    config = {
        "contract": contract,
        "datasets": [{"root": f"{folder}/lerobot", "state": []}],
        "cache": f"{folder}/packs",
        "cache_images": "fitted",
    }
    loader = Loader(open_mixture(config), batch_size=BATCH, workers=workers)

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    return clocked(endless(), count, lambda batch: len(batch["action"]))


def lerobot(folder: str, size: int, count: int, workers: int) -> tuple[float, float]:
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from torchvision.transforms import v2

    resize = v2.Resize((size, size)) if size else None
    data = LeRobotDataset("p9/p9", root=f"{folder}/lerobot", image_transforms=resize)
    loader = torch.utils.data.DataLoader(
        data, batch_size=BATCH, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    return clocked(endless(), count, lambda batch: len(batch["action"]))


def dlimp(folder: str, size: int, count: int, workers: int) -> tuple[float, float]:
    """Trajectories, each a record; their frames flattened, shuffled, decoded, resized and batched."""
    import tensorflow as tf

    files = sorted(map(str, Path(f"{folder}/rlds").rglob("*.tfrecord-*")))
    spec = {
        "steps/observation/image": tf.io.VarLenFeature(tf.string),
        "steps/action": tf.io.VarLenFeature(tf.float32),
    }

    def trajectory(record: Any) -> Any:
        found = tf.io.parse_single_example(record, spec)
        images = tf.sparse.to_dense(found["steps/observation/image"], default_value="")
        action = tf.reshape(tf.sparse.to_dense(found["steps/action"]), (-1, 7))
        return {"image": images, "action": action}

    def frame(step: Any) -> Any:
        image = tf.io.decode_jpeg(step["image"], channels=3)
        if size:
            image = tf.cast(tf.image.resize(image, (size, size)), tf.uint8)
        return {**step, "image": image}

    data = (
        tf.data.TFRecordDataset(files)
        .repeat()
        .map(trajectory, num_parallel_calls=tf.data.AUTOTUNE)
        .flat_map(tf.data.Dataset.from_tensor_slices)
        .shuffle(1000)
        .map(frame, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(BATCH)
        .prefetch(2)
    )
    return clocked(data.as_numpy_iterator(), count, lambda batch: len(batch["action"]))


SIDES = {"ours": ours, "packs": packs, "lerobot": lerobot, "dlimp": dlimp}


def write(folder: Path, episodes: int, kind: str) -> None:
    """The same episodes as LeRobot and as RLDS."""
    import vla_data as vd
    from benchmarks.episodes import write_rollouts
    from vla_data.media.video_settings import VideoSettings

    if not (folder / "rollouts").exists():
        write_rollouts(folder / "rollouts", episodes=episodes, compressed=False)
        vd.run(vd.open_source(folder / "rollouts"), (), vd.open_sink(folder / "rlds", format="rlds", name="p9"))
    options: dict[str, Any] = {"images": kind} if kind != "h264" else {"video": VideoSettings(codec="h264")}
    vd.run(vd.open_source(folder / "rollouts"), (), vd.open_sink(folder / kind / "lerobot", **options))
    (folder / kind / "rlds").symlink_to(folder / "rlds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--folder")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=["jpeg"], choices=["jpeg", "png", "h264"])
    parser.add_argument("--lerobot-python", help="an interpreter with lerobot; without it that side is left out")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    if given.side:
        rate = SIDES[given.side](given.folder, given.size, given.batches, given.workers)
        print(MARK + json.dumps(rate), flush=True)
        return

    from benchmarks import harness

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind in given.kinds:
            write(Path(scratch), given.episodes, kind)

            def side(name: str, python: str, workers: int, folder: str = f"{scratch}/{kind}") -> Any:
                command = [python, "-m", "benchmarks.p9_batches", "--side", name, "--folder", folder]
                command += ["--size", str(given.size), "--batches", str(given.batches), "--workers", str(workers)]

                def measure(_repeat: int) -> tuple[float, float]:
                    offline = {"HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
                    done = harness.run_command(command, env=offline)
                    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
                    if not lines:
                        raise SystemExit(f"{name}: {done.error()}")
                    rate, cpu = json.loads(lines[-1].removeprefix(MARK))
                    return float(rate), float(cpu)

                return measure

            sides = {"ours, 2 threads": side("ours", sys.executable, 2)}
            sides["ours, no threads"] = side("ours", sys.executable, 0)
            if given.size:
                sides["ours from packs of pixels"] = side("packs", sys.executable, 2)
            if kind == "jpeg":
                sides["dlimp-style"] = side("dlimp", sys.executable, 0)
            if given.lerobot_python:
                sides["LeRobotDataset"] = side("lerobot", given.lerobot_python, 0)
                sides["LeRobotDataset, 2 workers"] = side("lerobot", given.lerobot_python, 2)
            done = harness.alternate(sides, repeats=given.repeats)
            mine = harness.median(cpu for _, cpu in done["ours, 2 threads"])
            packed = [cpu for _, cpu in done.get("ours from packs of pixels", ())]
            for name, runs in done.items():
                theirs = harness.median(cpu for _, cpu in runs)
                rows.append(
                    {
                        "images": kind,
                        "side": name,
                        "CPU ms a frame": harness.ranged([cpu for _, cpu in runs]),
                        "frames/s": harness.ranged([rate for rate, _ in runs], 0),
                        "ours, CPU ratio": theirs / mine,
                        "ours from packs, CPU ratio": theirs / harness.median(packed) if packed else None,
                    }
                )
    print(harness.table(rows))
    if given.output:
        machine = harness.machine("numpy", "simplejpeg", "tensorflow-cpu", "pyarrow", "av")
        harness.write_json(given.output, {"machine": machine, "size": given.size, "rows": rows})


if __name__ == "__main__":
    main()
