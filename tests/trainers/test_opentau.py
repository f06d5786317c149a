"""OpenTau's own reader of the mixture that was prepared gives our numbers, normalised by our statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.trainers.judging import LIBERO, Trainer, chunk, episodes, made
from vla_data.core import Array

OPENTAU = Trainer("opentau")
pytestmark = [pytest.mark.nightly, OPENTAU.needed]

HORIZON, WIDTH = 10, 32


def half(values: Array) -> Array:
    """Rounded to bfloat16, to the nearest and to even, in which OpenTau's loader gives numbers."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)


def widened(values: Array) -> Array:
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, WIDTH - values.shape[-1])])


def test_the_mixture_is_read_and_normalised(tmp_path: Path) -> None:
    out = tmp_path / "out"
    made(out, "opentau", LIBERO, options={"action_horizon": HORIZON})
    told = OPENTAU.judge(
        *("opentau_read.py", out / "opentau.json", tmp_path / "seen.npz"),
        cwd=OPENTAU.repo,
        HF_HOME=str(tmp_path / "hf"),
        HOME=str(tmp_path / "home"),
    )
    assert told["optimizer"] == "AdamWConfig"
    own, seen = episodes(LIBERO), np.load(tmp_path / "seen.npz")
    every = {name: np.concatenate([e.arrays[name] for e in own]) for name in ("action", "observation.state")}
    names = {"actions": ("action", "ACTION"), "state": ("observation.state", "STATE")}
    for row in range(len(seen["frame"])):
        episode, t = own[seen["episode"][row]], int(seen["frame"][row])
        wanted = {
            "actions": chunk(episode.arrays["action"], t, HORIZON),
            "state": episode.arrays["observation.state"][t],
        }
        for name, (column, kind) in names.items():
            plain = half(wanted[name])
            np.testing.assert_array_equal(seen[name][row], widened(plain))
            values = every[column].astype(np.float64)
            if told["modes"][kind] == "MEAN_STD":
                scaled = (plain - values.mean(axis=0)) / (values.std(axis=0) + told["eps"])
            else:
                assert told["modes"][kind] == "MIN_MAX"
                low, high = values.min(axis=0), values.max(axis=0)
                scaled = (plain - low) / (high - low + told["eps"]) * 2 - 1
            size = plain.shape[-1]
            np.testing.assert_allclose(seen[f"scaled_{name}"][row][..., :size], scaled, rtol=1e-5, atol=1e-5)
        assert seen["prompt"][row] == episode.task
        np.testing.assert_array_equal(seen["is_pad"][row], t + np.arange(HORIZON) >= len(episode))
        assert not seen["img_is_pad"][row].any()
        for number, pictures in enumerate(episode.frames[name] for name in sorted(episode.frames)):
            shown = seen[f"camera{number}"][row]
            small = shown.reshape(3, 32, 7, 32, 7).mean(axis=(2, 4)).transpose(1, 2, 0)
            assert np.abs(small - pictures.pixels(t) / 255).mean() < 0.02
