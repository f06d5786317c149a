"""A track in one file: any of its images is found without reading the others.

    8 bytes   magic
    8 bytes   length of the head, little endian
    head      JSON: id, task, length, arrays (name, dtype, shape, offset), cameras, CRC-32C of the arrays
    arrays    from the next multiple of 64 on, each at a multiple of 64
    images    one after the other; offsets and CRC-32C of each are among the arrays

Images stay encoded as they are; those that are not become PNG, which loses nothing. Frames of videos stay in their
videos, so episodes with such are not packed. A pack of a `fitted` track has pixels at the contract's size instead,
of images and videos alike: a batch is then a gather, and holds what it would without packs.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np

from vla_data.core import Array
from vla_data.errors import DataError
from vla_data.files.write import machine_errors, make_folder, write_file
from vla_data.media.frames import Frames
from vla_data.media.images import Pixels, encode
from vla_data.media.located import Located, LocatedPixels
from vla_data.mixtures import pictures
from vla_data.mixtures.contract import Contract
from vla_data.mixtures.track import Track
from vla_data.safety import strict_json
from vla_data.safety.pieces import Pieces

_MAGIC: Final = b"VLAPACK3"
_ALIGN: Final = 64
_MAX_HEAD: Final = 16 << 20


def can_pack(track: Track) -> bool:
    """Whether every image is there as bytes or pixels."""
    kinds = (bytes, memoryview, np.ndarray)
    return all(isinstance(item, kinds) for frames in track.frames.values() for item in frames.items)


def fitted(track: Track, contract: Contract) -> Track:
    """A track whose images are pixels of the contract's size, as batches have them."""
    assert contract.image_size is not None
    height, width = contract.image_size
    frames = {
        camera: Frames(
            tuple(pictures.fitted(kept, row, (height, width), contract.resize) for row in range(len(kept))),
            height,
            width,
        )
        for camera, kept in track.frames.items()
    }
    return replace(track, frames=frames)


def write(track: Track, path: Path, *, pixels: bool = False) -> None:
    """Write the pack of a track, atomically.

    Args:
        track: with every image as bytes or pixels.
        path: the pack.
        pixels: leave pixels as they are; else they become PNG.
    """
    arrays: dict[str, Array] = dict(track.arrays)
    images: list[bytes | memoryview] = []
    at = 0
    for camera, frames in track.frames.items():
        items = [_stored(item, pixels) if isinstance(item, np.ndarray) else item for item in frames.items]
        sizes = np.asarray([len(item) for item in items], dtype=np.int64)  # type: ignore[arg-type]
        arrays[f"offsets:{camera}"] = at + np.concatenate(([0], np.cumsum(sizes)))
        arrays[f"crcs:{camera}"] = np.asarray([google_crc32c.value(bytes(i)) for i in items], dtype=np.int64)  # type: ignore[arg-type]
        images.extend(items)  # type: ignore[arg-type]
        at += int(sizes.sum())
    body = bytearray()
    listed = []
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        body += bytes(-len(body) % _ALIGN)
        listed.append([name, array.dtype.str, list(array.shape), len(body)])
        body += array.tobytes()
    body += bytes(-len(body) % _ALIGN)
    head = json.dumps(
        {
            "id": track.id,
            "task": track.task,
            "length": track.length,
            "arrays": listed,
            "cameras": [[camera, f.height, f.width] for camera, f in track.frames.items()],
            "body": len(body),
            "images": at,
            "pixels": pixels,
            "crc": google_crc32c.value(bytes(body)),
        }
    ).encode()
    with machine_errors("cannot write the cache"):
        make_folder(path.parent)
        begin = _MAGIC + len(head).to_bytes(8, "little") + head
        write_file(path, (begin, bytes(-len(begin) % _ALIGN), bytes(body), *images), sync=False)


def _stored(item: Pixels, pixels: bool) -> bytes:
    return item.tobytes() if pixels else encode(item, "png")


def read(path: Path) -> Track:
    """The track of a pack.

    Raises:
        DataError: E105 when it is damaged.
        OSError: there is none.
    """
    file = Pieces(path)
    try:
        return _track(file)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError("E105", f"a pack of the cache is damaged ({type(error).__name__})") from None


def _track(file: Pieces) -> Track:
    begin = file.read(0, 16)
    length = int.from_bytes(begin[8:], "little")
    if begin[:8] != _MAGIC or length > min(_MAX_HEAD, file.size):
        raise ValueError("no pack")
    head: Any = strict_json.loads(file.read(16, length), name="the pack")
    start = -(-(16 + length) // _ALIGN) * _ALIGN
    images = start + head["body"]
    if not start <= images <= file.size or images + head["images"] != file.size:
        raise ValueError("a pack of another size")
    body = file.read(start, head["body"])
    if google_crc32c.value(body) != head["crc"]:
        raise ValueError("a pack of other bytes")
    arrays: dict[str, Array] = {}
    for name, dtype, shape, at in head["arrays"]:
        kind = np.dtype(dtype)
        if kind.hasobject:
            raise ValueError("objects")
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(body, dtype=kind, count=count, offset=at).reshape(shape)
    frames: dict[str, Frames] = {}
    for camera, height, width in head["cameras"]:
        bounds = arrays.pop(f"offsets:{camera}").tolist()
        crcs = arrays.pop(f"crcs:{camera}").tolist()
        places = [
            Located(file, images + a, b - a, crc) for a, b, crc in zip(bounds[:-1], bounds[1:], crcs, strict=True)
        ]
        if head["pixels"]:
            if any(place.size != height * width * 3 for place in places):
                raise ValueError("images of another size")
            frames[camera] = Frames(tuple(LocatedPixels(place, height, width) for place in places), height, width)
        else:
            frames[camera] = Frames(tuple(places), height, width)
    memory = sum(array.nbytes for array in arrays.values()) + 200 * sum(map(len, frames.values()))
    return Track(
        id=head["id"], length=head["length"], task=head["task"], arrays=arrays, frames=frames, size=memory
    )
