"""The least that turning these files into JPEGs can take: read and hash each file, inflate every image, encode the
kept ones.

Each is timed with the fastest library that is installed, and with the memory settings that workers have, in one
process per core at the same time, so that cores which share a cache or a clock are charged for it. Seconds are of
the processor, per image:

    limit(files, cores=2).cpu_seconds(kept_share=0.8)
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import mmap
import multiprocessing
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from benchmarks.harness import median, usable_cores
from vla_data.jobs.memory import keep

_MEMBER = "arr_0.npy"
# Input and output stay in the core's own cache: 1.2 times as fast as inflating a file in one call.
_INPUT_CHUNK = 1 << 17
_ENCODED_PER_FILE = 40
_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Limit:
    """CPU seconds of one core, per image, while all `cores` are busy."""

    cores: int
    read_seconds: float
    inflate_seconds: float
    inflater: str
    encode_seconds: float
    jpeg_kb: float

    def cpu_seconds(self, kept_share: float) -> float:
        """Of one image that is read, where this share of them is encoded."""
        return self.read_seconds + self.inflate_seconds + kept_share * self.encode_seconds


@dataclass(frozen=True, slots=True)
class _FileCost:
    read: float
    inflate: dict[str, float]
    encode: float
    jpeg_bytes: float


def limit(files: Sequence[Path], *, cores: int | None = None, sample: int = 2) -> Limit:
    """Measure on `sample` of `files`."""
    count = cores or usable_cores()
    chosen = list(files[: max(1, sample)])
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=keep) as pool:
        list(pool.map(_file_cost, chosen[:1] * count))  # start every process and warm the page cache
        # Every core measures every file, so that all of them are busy from beginning to end.
        costs = list(pool.map(_file_cost, [path for path in chosen for _ in range(count)]))
    inflate = {name: median(cost.inflate[name] for cost in costs) for name in costs[0].inflate}
    inflater = min(inflate, key=inflate.__getitem__)
    return Limit(
        cores=count,
        read_seconds=median(cost.read for cost in costs),
        inflate_seconds=inflate[inflater],
        inflater=inflater,
        encode_seconds=median(cost.encode for cost in costs),
        jpeg_kb=median(cost.jpeg_bytes for cost in costs) / 1e3,
    )


def _file_cost(path: Path) -> _FileCost:
    with np.load(path, allow_pickle=True) as archive:  # only for files that this benchmark wrote
        frames = [np.asarray(image) for image in archive["arr_0"].item()["image"]]
    read = _best_of_two(lambda: hashlib.sha256(path.read_bytes())) / len(frames)
    inflate = {way: _best_of_two(partial(take, path)) / len(frames) for way, take in _inflaters(path).items()}
    chosen = frames[:: max(1, len(frames) // _ENCODED_PER_FILE)]
    sizes: list[int] = []
    start = time.process_time()
    for frame in chosen:
        sizes.append(len(simplejpeg.encode_jpeg(frame, quality=_JPEG_QUALITY, colorsubsampling="420")))
    encode = (time.process_time() - start) / len(chosen)
    return _FileCost(read=read, inflate=inflate, encode=encode, jpeg_bytes=sum(sizes) / len(sizes))


def _best_of_two(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(2):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return min(seconds)


def _inflaters(path: Path) -> dict[str, Callable[[Path], None]]:
    """The installed ways to get a member's bytes, by name; a stored member is only copied."""
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo(_MEMBER).compress_type == zipfile.ZIP_STORED:
            return {"stored": _copy}
    ways: dict[str, Callable[[Path], None]] = {"zlib": partial(_stream, zlib.decompressobj)}
    try:
        from isal import isal_zlib

        ways["isal"] = partial(_stream, isal_zlib.decompressobj)
    except ImportError:
        pass
    try:
        import deflate

        ways["libdeflate"] = partial(_whole, deflate.deflate_decompress)
    except ImportError:
        pass
    return ways


def _stream(start: Callable[[int], Any], path: Path) -> None:
    data, _ = _member(path)
    inflater = start(-zlib.MAX_WBITS)
    for position in range(0, len(data), _INPUT_CHUNK):
        inflater.decompress(data[position : position + _INPUT_CHUNK])


def _whole(inflate: Callable[[memoryview, int], Any], path: Path) -> None:
    inflate(*_member(path))


def _copy(path: Path) -> None:
    data, _ = _member(path)
    scratch = bytearray(_INPUT_CHUNK)
    for position in range(0, len(data), _INPUT_CHUNK):
        part = data[position : position + _INPUT_CHUNK]
        scratch[: len(part)] = part


def _member(path: Path) -> tuple[memoryview, int]:
    """The bytes of `arr_0.npy` as they lie in the file, mapped, and their inflated length."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(_MEMBER)
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # The name's and the extra field's lengths close the local header of 30 bytes.
    name, extra = struct.unpack_from("<HH", content, info.header_offset + 26)
    begin = info.header_offset + 30 + name + extra
    return memoryview(content)[begin : begin + info.compress_size], info.file_size


def main() -> None:
    parser = argparse.ArgumentParser(description="The limit for a folder of rollouts, in CPU seconds an image.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kept-share", type=float, default=1.0)
    parser.add_argument("--cores", type=int)
    options = parser.parse_args()
    files = sorted(options.folder.glob("*.npz"))
    if not files:
        parser.error(f"{options.folder} holds no .npz file")
    found = limit(files, cores=options.cores)
    for key, value in dataclasses.asdict(found).items():
        print(f"{key:26} {value:.5f}" if isinstance(value, float) else f"{key:26} {value}")
    print(f"{'cpu_seconds':26} {found.cpu_seconds(options.kept_share):.5f}")


if __name__ == "__main__":
    main()
