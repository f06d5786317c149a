"""All that is odd in a demo, or that its file does not say, is in one refusal, with the options for all of it."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.hdf5_files import read
from vla_data.errors import DataError

T = 4


def _file(mode: str, size: tuple[int, int], kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind)
    return buffer.getvalue()


def _rows(demo: h5py.Group, name: str, rows: list[bytes]) -> None:
    table = demo.create_dataset(name, (len(rows),), dtype=h5py.vlen_dtype(np.uint8))
    for at, row in enumerate(rows):
        table[at] = np.frombuffer(row, np.uint8)


def _compound(demo: h5py.Group) -> None:
    demo["obs/compound"] = np.zeros(T, dtype=[("a", "f4"), ("b", "i4")])


def _ragged(demo: h5py.Group) -> None:
    _rows(demo, "obs/ragged", [bytes(n + 1) for n in range(T)])


def _short(demo: h5py.Group) -> None:
    demo["obs/short"] = np.zeros((T - 2, 2))


def _longer(demo: h5py.Group) -> None:
    demo["obs/longer"] = np.zeros((T + 1, 2))


def _named(demo: h5py.Group) -> None:
    demo["obs/no name"] = np.zeros((T, 2))


def _linked(demo: h5py.Group) -> None:
    demo["obs/linked"] = h5py.ExternalLink("other.h5", "/x")


def _flags(demo: h5py.Group) -> None:
    demo["dones"] = np.full(T, 2)


def _rewards(demo: h5py.Group) -> None:
    demo["rewards"] = np.zeros(T + 3)


def _sizes(demo: h5py.Group) -> None:
    _rows(demo, "obs/sizes", [_file("RGB", (8, 8 + n), "JPEG") for n in range(T)])


def _bits(demo: h5py.Group) -> None:
    _rows(demo, "obs/bits", [_file("LA", (8, 8), "PNG")] * T)


def _cut(demo: h5py.Group) -> None:
    _rows(demo, "obs/cut", [b"\xff\xd8\xff\xe0"] * T)


def _texts(demo: h5py.Group) -> None:
    demo["obs/texts"] = np.array([b"\xff\xfe"] * T)


def _part(demo: h5py.Group) -> None:
    demo["actions/late"] = np.zeros((T - 1, 2))


def _far(demo: h5py.Group) -> None:
    demo["actions/far"] = np.full((T, 2), 1e9)


PARTS: dict[str, Callable[[h5py.Group], None]] = {
    "obs/compound": _compound,
    "obs/ragged": _ragged,
    "obs/short": _short,
    "obs/longer": _longer,
    "obs/no name": _named,
    "obs/linked": _linked,
    "dones": _flags,
    "rewards": _rewards,
    "obs/sizes": _sizes,
    "obs/bits": _bits,
    "obs/cut": _cut,
    "obs/texts": _texts,
    "actions/late": _part,
    "actions/far": _far,
}
MISSING: dict[str, dict[str, Any]] = {"--fps": {"fps": 10.0}, "--task": {"task": "lift it"}}
PAIRS = [
    *pairwise(PARTS),
    tuple(PARTS),
    *((part, "--fps") for part in PARTS),
    ("obs/cut", "--fps", "--task"),
]


def _write(path: Path, odd: tuple[str, ...]) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        rate = {} if "--fps" in odd else {"control_freq": 20}
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": rate})
        if "--task" not in odd:
            data.attrs["language"] = "lift it"
        demo = data.create_group("demo_0")
        demo["actions/arm"] = np.arange(3 * T, dtype=float).reshape(T, 3)
        demo["actions/grip"] = np.ones((T, 1))
        demo["obs/eef"] = np.arange(2 * T, dtype=float).reshape(T, 2)
        demo["obs/joints"] = np.zeros((T, 7))
        for name in odd:
            if name in PARTS:
                PARTS[name](demo)
    return path


@pytest.mark.parametrize("odd", PAIRS, ids="+".join)
def test_what_one_refusal_names_is_all_there_is(tmp_path: Path, odd: tuple[str, ...]) -> None:
    path = _write(tmp_path / "odd.h5", odd)
    with pytest.raises(DataError) as refused:
        read(path)
    message = refused.value.message
    left_out = {shlex.split(name)[0] for name in re.findall(r"--leave-out ('[^']*'|\S+)", message)}
    declared = {name for name in MISSING if f"{name} " in message}
    assert left_out | declared == set(odd)
    answers = {key: value for name in declared for key, value in MISSING[name].items()}
    episode = read(path, leave_out=tuple(left_out), **answers)
    np.testing.assert_array_equal(episode.arrays["observation.eef"], np.arange(2 * T).reshape(T, 2))
    np.testing.assert_array_equal(episode.arrays["action.arm"], np.arange(3 * T).reshape(T, 3))
    assert {f"left_out:{name}" for name in left_out} <= set(episode.notes)
    assert refused.value.frames in (T, None)
