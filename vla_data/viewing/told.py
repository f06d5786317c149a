"""An episode as JSON for the page: its numbers, cameras, buckets and values; every text as it is in the data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from vla_data.actions import Convention
from vla_data.core import Array, Episode, Feature, Json, Schema
from vla_data.core.ledger import Record
from vla_data.errors import UsageError
from vla_data.media.frames import Frames
from vla_data.media.images import encode, header
from vla_data.report.elements import labels, units
from vla_data.report.looked import WIDEST, width_of
from vla_data.viewing.beside import Beside

MOST: Final = 400_000
"""Numbers that are sent of one feature; of longer ones every second, third, ... step."""
_QUALITY: Final = 90
_LEFT_OUT: Final = ("timestamp", "frame_index", "episode_index", "index", "task_index")


def told(position: int, episode: Episode, schema: Schema, known: Beside) -> dict[str, Json]:
    """What the page draws of an episode."""
    record = known.record(episode.id, episode)
    success = episode.arrays.get("next.success")
    return {
        "position": position,
        "id": episode.id,
        "task": episode.task,
        "steps": len(episode),
        "fps": schema.fps or None,
        "robot": schema.robot,
        "cameras": [
            {"name": name, "height": frames.height, "width": frames.width}
            for name, frames in sorted(episode.frames.items())
        ],
        "series": list(_series(episode, schema)),
        "success": None if success is None else [bool(np.any(flag)) for flag in success],
        "buckets": None if record is None else _buckets(record),
        "advantages": known.advantages(episode.id, len(episode)),
        "notes": list(episode.notes),
    }


def picture(frames: Frames, step: int) -> tuple[str, bytes]:
    """The type and bytes of an image: JPEG and PNG as they are stored, others as JPEG.

    Raises:
        DataError: it can't be decoded, or a side is over 4,096 pixels.
    """
    item = frames.items[step]
    if isinstance(item, bytes | memoryview):  # `is_stored`
        return f"image/{header(item).encoding}", bytes(item)
    return "image/jpeg", encode(frames.pixels(step), "jpeg", quality=_QUALITY)


def is_stored(frames: Frames, step: int) -> bool:
    """Whether an image is sent as it is stored, which takes no decoding."""
    return isinstance(frames.items[step], bytes | memoryview)


def _series(episode: Episode, schema: Schema) -> Iterator[dict[str, Json]]:
    names = sorted(episode.arrays, key=lambda name: (_rank(name), name))
    for name in names:
        feature, array = schema.features.get(name), episode.arrays[name]
        if feature is None or name in _LEFT_OUT or array.dtype.kind not in "fiub" or not len(array):
            continue
        table = array.reshape(len(array), -1)
        if table.shape[1] > WIDEST or table.shape[1] != width_of(feature):
            continue
        stride = max(1, math.ceil(table.size / MOST))
        yield {
            "name": name,
            "labels": labels(feature),
            "units": units(feature, _convention(feature)),
            "stride": stride,
            "values": [_numbers(column) for column in table[::stride].T],
        }


def _rank(name: str) -> int:
    return 0 if name == "action" else 1 if name == "observation.state" else 2


def _convention(feature: Feature) -> Convention | None:
    try:
        return Convention.from_json(feature.convention)
    except UsageError:
        return None


def _numbers(column: Array) -> list[float | None]:
    """Six digits are more than a screen shows; what is not finite has no place in JSON."""
    values: list[Any] = column.astype(np.float64).tolist()
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]


def _buckets(record: Record) -> dict[str, Json]:
    kept = [at for span in record.spans if span.bucket == "kept" for at in range(span.start, span.stop)]
    return {
        "source": record.id,
        "length": record.length,
        "spans": [[span.start, span.stop, span.bucket, span.reason] for span in record.spans],
        "kept": kept,
    }
