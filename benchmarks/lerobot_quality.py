"""What a LeRobot dataset holds of the rollouts that it was made of: every row and image, and PSNR of some."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.episodes import Pixels

_CAMERA = "observation.images.primary"


@dataclass(frozen=True, slots=True)
class Source:
    """Frames of one rollout to compare with, and its actions, by which it is found again in a dataset."""

    actions: npt.NDArray[np.float32]
    frames: Mapping[int, Pixels]


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


def source_of(path: Path) -> Source:
    """Three frames of a rollout of ours."""
    with np.load(path, allow_pickle=True) as archive:  # written by ourselves a moment ago
        content = archive["arr_0"].item()
    actions = np.asarray(content["action"], dtype=np.float32)
    chosen = (0, len(actions) // 2, len(actions) - 1)
    return Source(actions, {t: np.asarray(content["image"][t]) for t in chosen})
