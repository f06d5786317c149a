"""Many rollouts, one in twenty of them bad in one of ten ways: each costs itself, and is explained.

`scripts/nightly tests/jobs/test_many_with_bad_ones.py` takes 16,400; `VLA_DATA_EPISODES` another number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.faults import sizes
from tests.rollouts import rollout, save
from vla_data.verification.check import verify


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("owned",))


def good(number: int, **changed: Any) -> dict[str, Any]:
    return rollout(T=8, size=(8, 8), seed=number, **changed)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    at = data.index(b"arr_0.npy") + 200  # in the data, which have a CRC-32
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def spoilt(key: str, value: Any) -> Callable[[int], dict[str, Any]]:
    return lambda number: {**good(number), key: value}


def actions(value: float) -> np.ndarray:
    array = np.zeros((8, 7), np.float32)
    array[3, 6] = value
    return array


CONTENTS: tuple[tuple[str, Callable[[int], Any]], ...] = (
    ("E201", spoilt("action", actions(np.nan))),
    ("E202", spoilt("action", actions(1e30))),
    ("E203", spoilt("action", np.zeros((8, 6), np.float32))),
    ("E204", spoilt("info", [{"success": True}] * 7)),
    ("E206", spoilt("info", [{"done": True}] * 8)),
    ("E211", spoilt("instruction", "")),
    ("E101", spoilt("instruction", Evil())),
)
BYTES: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("E105", cut),
    ("E105", flipped),
    ("E105", lambda data: b""),
)


@pytest.mark.parametrize("count", sizes("EPISODES", 1_000, 16_400))
def test_one_in_twenty_is_bad_and_costs_itself_alone(count: int, tmp_path: Path) -> None:
    folder = tmp_path / "rollouts"
    expected: dict[str, str] = {}
    for number in range(count):
        name = f"{number:05d}.npz"
        kind = number // 20 % (len(CONTENTS) + len(BYTES))
        if number % 20 != 7:
            save(folder, name, good(number))
        elif kind < len(CONTENTS):
            expected[name], make = CONTENTS[kind]
            save(folder, name, make(number))
        else:
            expected[name], damage = BYTES[kind - len(CONTENTS)]
            path = save(folder, name, good(number))
            path.write_bytes(damage(path.read_bytes()))
    report = vd.run(vd.open_source(folder), (), vd.open_sink(tmp_path / "out", images="jpeg"), workers=2)
    records = {record.id: record for record in report.ledger.records}
    assert report.exit_code == 3
    assert len(records) == count
    assert Counter(record.status for record in records.values()) == {
        "published": count - len(expected),
        "failed": len(expected),
    }
    failed = {name: record.reason for name, record in records.items() if record.status == "failed"}
    assert {name: code for name, code in failed.items() if code != expected.get(name)} == {}
    assert failed.keys() == expected.keys()
    assert all(record.message and "\n" not in record.message for record in records.values() if record.reason)
    assert verify(tmp_path / "out", deep=True).ok
    print(f"{count:,} episodes: {count - len(expected):,} published, {len(expected):,} explained")
