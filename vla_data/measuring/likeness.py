"""Episodes that are like earlier ones: the same content, or nearly."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vla_data.core import Array, Episode
from vla_data.measuring.pictures import contents
from vla_data.statistics.health import is_judged

MOMENTS: Final = 16
NEAR: Final = 0.05
"""Of a number's range: further apart at one of the moments, and two motions are not alike."""
BITS: Final = 5
"""Of 64: more of a picture's hash differ, and two pictures are not alike."""
LONGER: Final = 1.1
_PAIRS: Final = 1 << 20


def digest(episode: Episode) -> str:
    """SHA-256 of the instruction, of every number of every step (apart from counters and times), and of the first,
    middle and last image, as `vla_data.measuring.pictures.contents` gives them.
    """
    sha256 = hashlib.sha256(episode.task.encode("utf-8", "surrogatepass"))
    for name in sorted(filter(is_content, episode.arrays)):
        array = np.ascontiguousarray(episode.arrays[name])
        sha256.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode("utf-8", "surrogatepass"))
        sha256.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes())
    for name in sorted(episode.frames):
        for image in contents(episode.frames[name]):
            sha256.update(image)
    return sha256.hexdigest()


def is_content(name: str) -> bool:
    """Whether an array is what was seen or done, not a counter or a time."""
    return is_judged(name) or name.startswith("next.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """What of an episode is compared with others.

    Attributes:
        digest: see `digest`.
        group: episodes of other groups are never alike: the instruction, cameras and numbers that there are.
        length: in steps.
        motion: actions and states at `MOMENTS` moments, each number in ranges of its own.
        hashes: of its pictures.
    """

    digest: str
    group: object
    length: int
    motion: Array
    hashes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Alike:
    """How many earlier episodes one is like, and the position of the first of them."""

    count: int = 0
    first: int = -1


def moments(array: Array, spans: Array) -> Array:
    """``(MOMENTS * width,)`` float32: an array ``(T, width)`` at moments spread evenly, in ranges; what has none
    is 0.
    """
    at = np.linspace(0, len(array) - 1, MOMENTS).round().astype(int)
    picked = array[at].astype(np.float64)
    scaled = np.divide(picked, spans, out=np.zeros_like(picked), where=spans > 0)
    found: Array = scaled.astype(np.float32).ravel()
    return found


def copies(digests: Sequence[str]) -> list[Alike]:
    """Of each episode, the earlier ones with its content."""
    seen: dict[str, list[int]] = defaultdict(list)
    out = []
    for at, one in enumerate(digests):
        out.append(Alike(len(seen[one]), seen[one][0] if seen[one] else -1))
        seen[one].append(at)
    return out


def near_copies(sketches: Sequence[Sketch | None]) -> list[Alike | None]:
    """Of each episode, the earlier ones that are nearly it and have other content; None where nothing is known."""
    groups: dict[object, list[int]] = defaultdict(list)
    for at, sketch in enumerate(sketches):
        if sketch is not None:
            groups[sketch.group].append(at)
    out: list[Alike | None] = [None] * len(sketches)
    for members in groups.values():
        found = _of_group([sketch for at in members if (sketch := sketches[at]) is not None])
        for at, alike in zip(members, found, strict=True):
            out[at] = Alike(alike.count, members[alike.first] if alike.count else -1)
    return out


def _of_group(group: Sequence[Sketch]) -> list[Alike]:
    motion = np.stack([one.motion for one in group])
    hashes = np.array([one.hashes for one in group], dtype=np.uint64).reshape(len(group), -1)
    codes = np.unique([one.digest for one in group], return_inverse=True)[1].ravel()
    lengths = np.array([one.length for one in group], dtype=np.float64)
    # The numbers that differ most between episodes come first: they leave the fewest pairs for the rest.
    columns = np.argsort(-motion.std(axis=0), kind="stable")
    counts = np.zeros(len(group), dtype=np.int64)
    first = np.full(len(group), len(group), dtype=np.int64)
    for i, j in _candidates(motion[:, columns[0]] if len(columns) else np.zeros(len(group))):
        later, earlier = np.maximum(i, j), np.minimum(i, j)
        fine = codes[later] != codes[earlier]
        a, b = lengths[later], lengths[earlier]
        fine &= np.maximum(a, b) <= LONGER * np.minimum(a, b)
        later, earlier = later[fine], earlier[fine]
        for column in columns:
            fine = np.abs(motion[later, column] - motion[earlier, column]) <= NEAR
            later, earlier = later[fine], earlier[fine]
            if not len(later):
                break
        for column in range(hashes.shape[1]):
            fine = _bits(hashes[later, column] ^ hashes[earlier, column]) <= BITS
            later, earlier = later[fine], earlier[fine]
        counts += np.bincount(later, minlength=len(group))
        np.minimum.at(first, later, earlier)
    return [Alike(int(n), int(at)) if n else Alike() for n, at in zip(counts, first, strict=True)]


def _candidates(values: Array) -> Iterator[tuple[Array, Array]]:
    """Pairs whose values are near each other, each pair once, about a million at a time."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    stops = np.searchsorted(ordered, ordered + np.float32(NEAR) * 1.001, side="right")
    widths = np.maximum(stops - np.arange(len(values)) - 1, 0)
    start = 0
    while start < len(values):
        stop = start + max(int(np.searchsorted(np.cumsum(widths[start:]), _PAIRS, side="right")), 1)
        some = widths[start:stop]
        rows = np.repeat(np.arange(start, start + len(some)), some)
        offsets = np.arange(len(rows)) - np.repeat(np.cumsum(some) - some, some)
        yield order[rows], order[rows + 1 + offsets]
        start = stop


def _bits(words: Array) -> Array:
    """How many bits of each 64-bit word are set; `numpy.bitwise_count` came with NumPy 2."""
    octets = np.ascontiguousarray(words).view(np.uint8).reshape(-1, 8)
    counts: Array = np.unpackbits(octets, axis=1).sum(axis=1)
    return counts
