"""P13: reading RLDS episodes without TensorFlow, against stock TFDS, on the same files.

    python -m benchmarks.p13_rlds_reading [FOLDER]

Both give every feature of every step; 8-bit RGB images stay encoded on both sides, as our source leaves them to
whoever looks at pixels, and TFDS does with ``SkipDecoding``. Ours also verifies checksums, hashes each record and
checks each image's header. Starting up (imports, opening) is not counted; building TensorFlow's graph is.
Without a folder it is the real cut of the tests, written many times over.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import harness

CUT = harness.REPOSITORY / "tests/data/rlds/bridge_dataset/1.0.0"


def read_ours(folder: str) -> dict[str, float]:
    """Episodes, steps and seconds."""
    from converters.rlds.source import RldsSource

    source = RldsSource(root=Path(folder), fps=5, allow_empty_instruction=True)
    start = time.perf_counter()
    steps = [len(source.read(ref)) for ref in source.episodes()]
    return {"episodes": len(steps), "frames": sum(steps), "seconds": time.perf_counter() - start}


def read_tfds(folder: str, *, by: str) -> dict[str, float]:
    """The same with TFDS: ``by`` "steps", as its users iterate, or "episodes", whole columns as dlimp has them."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    skip = tfds.decode.SkipDecoding()
    cameras = {
        name: skip
        for name, feature in builder.info.features["steps"].feature["observation"].items()
        if isinstance(feature, tfds.features.Image)
    }
    decoders: Any = {"steps": skip if by == "episodes" else {"observation": cameras}}
    start = time.perf_counter()
    episodes = frames = 0
    for split in builder.info.splits:
        for episode in tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders)):
            episodes += 1
            steps = episode["steps"]
            frames += len(steps["is_first"]) if by == "episodes" else sum(1 for _ in steps)
    return {"episodes": episodes, "frames": frames, "seconds": time.perf_counter() - start}


def write(folder: Path, episodes: int) -> None:
    """The records of the real cut, over and over, in one shard."""
    from converters.rlds import tfrecord

    folder.mkdir()
    shutil.copy(CUT / "features.json", folder)
    info = json.loads((CUT / "dataset_info.json").read_text())
    info["splits"] = info["splits"][:1]
    info["splits"][0]["shardLengths"] = [str(episodes)]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    shard = "bridge_dataset-train.tfrecord-00000-of-00001"
    with (CUT / shard).open("rb") as file:
        records = [b"".join(map(bytes, tfrecord.frame([data]))) for data in tfrecord.records(file, name=shard)]
    (folder / shard).write_bytes(b"".join(records[i % len(records)] for i in range(episodes)))


def _run(target: str, options: dict[str, Any], _repeat: int) -> dict[str, float]:
    result: dict[str, float] = harness.run_function(f"benchmarks.p13_rlds_reading:{target}", **options)[1]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = arguments.folder or f"{root}/1.0.0"
        if arguments.folder is None:
            write(Path(folder), arguments.episodes)
        sides = {
            "ours": partial(_run, "read_ours", {"folder": folder}),
            "tfds, steps": partial(_run, "read_tfds", {"folder": folder, "by": "steps"}),
            "tfds, whole episodes": partial(_run, "read_tfds", {"folder": folder, "by": "episodes"}),
        }
        done = harness.alternate(sides, repeats=arguments.repeats)
    rows = []
    base = harness.median(one["seconds"] for one in done["ours"])
    for name, results in done.items():
        seconds = harness.median(one["seconds"] for one in results)
        rows.append(
            {
                "reader": name,
                "episodes/s": results[0]["episodes"] / seconds,
                "frames/s": results[0]["frames"] / seconds,
                "seconds": seconds,
                "times ours": seconds / base,
                "spread": harness.spread([one["seconds"] for one in results]),
            }
        )
    print(harness.table(rows))
    if arguments.output:
        packages = ("numpy", "tensorflow", "tensorflow-cpu", "tensorflow-datasets", "google-crc32c")
        harness.write_json(arguments.output, {"machine": harness.machine(*packages), "rows": rows})


if __name__ == "__main__":
    main()
