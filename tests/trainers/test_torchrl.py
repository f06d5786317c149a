"""TorchRL makes the buffer that was prepared for it, and its own policy and loss take steps on our numbers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.paths import TESTS
from tests.trainers.judging import LIBERO, chunk, episodes, made, said

PYTHON = os.environ.get("TORCHRL_PYTHON", "")
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(not PYTHON, reason="TORCHRL_PYTHON names no interpreter; scripts/judges torchrl makes one"),
]

LENGTH, HORIZON = 6, 4


def test_steps_are_taken_on_our_numbers(tmp_path: Path) -> None:
    made(tmp_path, "torchrl", LIBERO)
    judge = TESTS / "judges/torchrl_step.py"
    told = said([PYTHON, judge, tmp_path, "agentview_rgb", tmp_path / "seen.npz"], cwd=tmp_path)
    assert np.isfinite(told["losses"]).all()
    assert told["losses"][-1] < told["losses"][0]
    own, seen = episodes(LIBERO), np.load(tmp_path / "seen.npz")
    assert told["steps"] == sum(map(len, own))
    for row in range(len(seen["frame"])):
        episode, t = own[seen["episode"][row]], int(seen["frame"][row])
        left = LENGTH - row % LENGTH  # a chunk ends with its slice
        wanted = chunk(episode.arrays["action"][: t + left], t, HORIZON)
        np.testing.assert_allclose(seen["chunk"][row], wanted, rtol=1e-6)
        np.testing.assert_array_equal(seen["is_pad"][row], np.arange(HORIZON) >= left)
        np.testing.assert_allclose(seen["state"][row], episode.arrays["observation.state"][t], rtol=1e-6)
        pixels = episode.frames["observation.images.agentview_rgb"].pixels(t)
        np.testing.assert_array_equal(seen["image"][row], pixels.transpose(2, 0, 1))
        assert seen["task"][row] == episode.task
