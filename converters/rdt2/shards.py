"""RDT2's shards: uncompressed tar archives, in which the members of a sample share a number.

::

    0.image.jpg    (384, 768, 3): the left wrist's camera, then the right one's
    0.action.npy   (24, 20) float32, see `converters.rdt2.arms`
    0.meta.json    {"sub_task_instruction_key": key of instruction.json}

``action_token.npy``, which RDT2-VQ trains on, is what RDT2's own tokenizer makes of the action: not written.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vla_data.errors import DataError
from vla_data.safety import npy
from vla_data.safety.files import read_file
from vla_data.safety.text import show

FOLDER: Final = "shards"
INSTRUCTIONS: Final = "instruction.json"
KEY: Final = "sub_task_instruction_key"
SIDE: Final = 384
"""Pixels of a camera's side."""
PER_SHARD: Final = 1000
_MEMBERS: Final = ("action.npy", "image.jpg", "meta.json")
_LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """One of a shard.

    Attributes:
        number: of all samples of the dataset.
        image: JPEG.
        action: npy.
        key: of its instruction.
    """

    number: int
    image: bytes
    action: bytes
    key: str

    def chunk(self) -> NDArray[np.float32]:
        """Its actions.

        Raises:
            DataError: it is no plain npy.
        """
        found = npy.loads(self.action, name="action.npy")
        if not isinstance(found, np.ndarray):
            raise DataError("E105", "action.npy is no array")
        return found


def key_of(task: str) -> str:
    """The key of an instruction: by its text, so that it is the same in every dataset."""
    return hashlib.sha256(task.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def npy_bytes(chunk: NDArray[np.float32]) -> bytes:
    """A chunk as ``np.save`` writes it."""
    out = io.BytesIO()
    np.lib.format.write_array(out, chunk, version=(1, 0), allow_pickle=False)
    return out.getvalue()


def pack(images: Iterable[bytes], actions: Iterable[bytes]) -> bytes:
    """The samples of an episode, before they have numbers."""
    parts = [part for pair in zip(images, actions, strict=True) for part in pair]
    return b"".join(len(part).to_bytes(_LENGTH, "little") + part for part in parts)


def unpack(blob: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Image and action of each sample; the way back from `pack`."""
    at, parts = 0, []
    while at < len(blob):
        size = int.from_bytes(blob[at : at + _LENGTH], "little")
        at += _LENGTH
        parts.append(blob[at : at + size])
        at += size
    yield from zip(parts[::2], parts[1::2], strict=True)


def member(name: str, data: bytes) -> Iterator[bytes]:
    """A file in a tar archive: nobody's, of no time."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    yield info.tobuf(tarfile.USTAR_FORMAT)
    yield data
    yield bytes(-len(data) % tarfile.BLOCKSIZE)


def pieces(samples: Iterable[Sample]) -> Iterator[bytes]:
    """A shard, piece by piece."""
    for sample in samples:
        yield from member(f"{sample.number}.action.npy", sample.action)
        yield from member(f"{sample.number}.image.jpg", sample.image)
        yield from member(f"{sample.number}.meta.json", json.dumps({KEY: sample.key}).encode())
    yield bytes(2 * tarfile.BLOCKSIZE)


def read(path: Path, *, root: Path) -> Iterator[Sample]:
    """The samples of a shard, in its order.

    Raises:
        DataError: E105 for what is no archive of samples, and what reading files raises.
    """
    data, _ = read_file(path, root=root)
    name = show(path.name)
    parts: dict[str, bytes] = {}
    key = None
    try:
        with tarfile.TarFile(fileobj=io.BytesIO(data)) as archive:
            for info in archive:
                number, _, kind = info.name.partition(".")
                if not info.isreg() or kind not in _MEMBERS or not number.isdecimal() or kind in parts:
                    raise DataError("E105", f"{name} has {show(info.name)[:80]}, which is no part of a sample")
                if key is not None and number != key:
                    raise DataError("E105", f"{name}: sample {key} lacks {_lacking(parts)}")
                key = number
                parts[kind] = data[info.offset_data : info.offset_data + info.size]
                if len(parts) == len(_MEMBERS):
                    yield _sample(name, int(number), parts)
                    parts, key = {}, None
    except tarfile.TarError as error:
        raise DataError("E105", f"{name} is no sound tar archive ({show(str(error))[:80]})") from None
    if parts:
        raise DataError("E105", f"{name}: sample {key} lacks {_lacking(parts)}")


def _lacking(parts: Iterable[str]) -> str:
    return ", ".join(sorted(set(_MEMBERS) - set(parts)))


def _sample(name: str, number: int, parts: dict[str, bytes]) -> Sample:
    try:
        told = json.loads(parts["meta.json"])
    except ValueError:
        told = None
    key = told.get(KEY) if isinstance(told, dict) else None
    if not isinstance(key, str):
        raise DataError("E105", f"{name}: meta.json of sample {number} has no {KEY}")
    return Sample(number, parts["image.jpg"], parts["action.npy"], key)
