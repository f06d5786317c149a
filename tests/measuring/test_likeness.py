"""Copies and near copies, against a comparison of every pair that is written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_data.measuring import likeness
from vla_data.measuring.likeness import Alike, Sketch, copies, near_copies

BASE = np.linspace(0, 1, 32, dtype=np.float32)


def sketch(name: str, **more: object) -> Sketch:
    one = Sketch(digest=name, group="task", length=100, motion=BASE, hashes=(0, 0, 0))
    return replace(one, **more)  # type: ignore[arg-type]


def test_copies_count_the_earlier_ones() -> None:
    assert copies(["a", "b", "a", "a"]) == [Alike(), Alike(), Alike(1, 0), Alike(2, 0)]


@pytest.mark.parametrize(
    ("more", "near"),
    [
        ({}, True),
        ({"motion": BASE + np.float32(0.0499)}, True),
        ({"motion": BASE + np.float32(0.0501)}, False),
        ({"motion": np.append(BASE[:-1], np.float32(1.06))}, False),
        ({"length": 110}, True),
        ({"length": 111}, False),
        ({"length": 90}, False),
        ({"hashes": (0b11111, 0, 0b11111)}, True),
        ({"hashes": (0, 0b111111, 0)}, False),
        ({"group": "another"}, False),
        ({"digest": "0"}, False),
    ],
)
def test_what_is_nearly_the_same(more: dict[str, object], near: bool) -> None:
    assert near_copies([sketch("0"), sketch("1", **more)])[1] == (Alike(1, 0) if near else Alike())


def test_an_episode_without_numbers_is_not_compared() -> None:
    assert near_copies([sketch("0"), None, sketch("2")]) == [Alike(), None, Alike(1, 0)]


def test_all_pairs_are_found_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "_PAIRS", 7)
    random = np.random.default_rng(3)
    some = [
        sketch(
            str(i % 50),
            motion=random.choice([0, 0.04, 0.08], 3).astype(np.float32),
            length=int(random.integers(95, 110)),
            hashes=tuple(random.integers(0, 64, 1).tolist()),
        )
        for i in range(60)
    ]
    expected = []
    for j, b in enumerate(some):
        earlier = [
            i
            for i, a in enumerate(some[:j])
            if a.digest != b.digest
            and max(a.length, b.length) <= 1.1 * min(a.length, b.length)
            and (np.abs(a.motion - b.motion) <= 0.05).all()
            and (a.hashes[0] ^ b.hashes[0]).bit_count() <= 5
        ]
        expected.append(Alike(len(earlier), earlier[0]) if earlier else Alike())
    assert near_copies(some) == expected
    assert {alike.count for alike in expected} > {0, 1, 2}


def test_moments_are_spread_over_the_episode_in_ranges() -> None:
    found = likeness.moments(np.arange(31, dtype=np.float64)[:, None] * [2, 0], np.array([20.0, 0.0]))
    assert found.reshape(16, 2)[:, 0].tolist() == pytest.approx([0.2 * i for i in range(16)])
    assert (found.reshape(16, 2)[:, 1] == 0).all()
