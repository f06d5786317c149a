"""What a record of RLDS has, for whoever judges what came of it.

The message is walked here field by field, without the parser and the rules of the reader, and names follow from
what ``docs/rlds.md`` says, written down once more: a judge that shares code with what it judges sees nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

Cells = list[Any] | None

_RULED: Final = ("is_first", "is_last")
_CALLED: Final = {"is_terminal": "next.terminated", "reward": "next.reward", "discount": "next.discount"}


def evidence(
    data: bytes, cameras: Sequence[str], instruction: str, left_out: Sequence[str]
) -> Mapping[str, Sequence[Any] | None]:
    """Feature -> its cells, one a step, or None for images, texts and lists.

    Args:
        data: of the record, a ``tf.train.Example``.
        cameras: paths that are declared as images of 8 bits and three channels.
        instruction: path of the instruction, which is no feature.
        left_out: paths that were not to be read.
    """
    found = dict(_features(data))
    marks = [found[f"steps/{name}"] for name in _RULED if f"steps/{name}" in found]
    steps = max((len(values) for values in marks if values is not None), default=0)
    out: dict[str, Cells] = {}
    for path, values in found.items():
        whole = path.removesuffix("/ragged_flat_values")
        below = whole.removeprefix("steps/")
        if below == whole or "/ragged_row_lengths_" in path or below in _RULED or whole == instruction:
            continue
        if any(whole == part or whole.startswith(f"{part}/") for part in left_out):
            continue
        count = len(values) if values is not None and whole not in cameras else 0
        rows = steps > 0 and count > 0 and count % steps == 0
        cells = np.asarray(values).reshape(steps, -1).tolist() if rows else None
        out[_name(below, is_camera=whole in cameras)] = cells
    return out


def _name(below: str, *, is_camera: bool) -> str:
    if below in _CALLED:
        return _CALLED[below]
    first, *rest = below.split("/")
    if is_camera and first == "observation" and rest:
        return "observation.images." + ".".join(rest)
    return ".".join(["action" if first == "action_dict" and rest else first, *rest])


def _features(data: bytes) -> Iterator[tuple[str, list[Any] | None]]:
    """Name -> numbers, or None for byte strings: ``Example.features.feature`` is a map of kinds of lists."""
    for _, features in _fields(data):
        for _, entry in _fields(features):
            parts = dict(_fields(entry))
            for kind, listed in _fields(parts.get(2, b"")):
                yield parts[1].decode("utf-8", "replace"), _numbers(kind, listed)


def _numbers(kind: int, data: bytes) -> list[Any] | None:
    if kind == 1:
        return None
    out: list[Any] = []
    for _, packed in _fields(data):
        if kind == 2:
            out += np.frombuffer(packed, "<f4").tolist()
            continue
        at = 0
        while at < len(packed):
            number, at = _varint(packed, at)
            out.append(number - (1 << 64) if number >> 63 else number)
    return out


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Field number -> its bytes; those of a number that stands alone, as a packed list of one."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        start = at
        if tag & 7 == 2:
            size, start = _varint(data, at)
            at = start + size
        elif tag & 7 == 5:
            at += 4
        elif tag & 7 == 1:
            at += 8
        else:
            _, at = _varint(data, at)
        yield tag >> 3, data[start:at]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data):
        number |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            break
        shift += 7
    return number, at
