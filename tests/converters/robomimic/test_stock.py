"""What robomimic's own loader makes of our files. ``ROBOMIMIC_PYTHON`` names an interpreter that has robomimic."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from converters.robomimic.sink import FILE
from tests import hdf5_files
from tests.paths import TESTS
from tests.rollouts import CAMERA

PYTHON = os.environ.get("ROBOMIMIC_PYTHON", "")
JUDGE = TESTS / "judges/robomimic_judge.py"

pytestmark = pytest.mark.skipif(not Path(PYTHON).is_file(), reason="ROBOMIMIC_PYTHON names no interpreter")


def judged(*args: Any) -> dict[str, Any]:
    done = subprocess.run([PYTHON, JUDGE, *map(str, args)], capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("JUDGED ")]
    found: dict[str, Any] = json.loads(line.removeprefix("JUDGED "))
    return found


@pytest.mark.parametrize("cache", ["low_dim", "all"])
def test_our_file_is_to_robomimic_what_its_own_was(cache: str, tmp_path: Path) -> None:
    vd.run(
        hdf5_files.source(hdf5_files.ROBOMIMIC), (), vd.open_sink(tmp_path / "set", format="robomimic"), workers=1
    )
    keys = ("agentview_image", "robot0_eef_pos", "robot0_gripper_qpos")
    ours, own = (judged(file, "", cache, *keys) for file in (tmp_path / "set" / FILE, hdf5_files.ROBOMIMIC))
    assert ours == own
    assert own["demos"] == 2


def test_robomimic_reads_what_the_source_read(tmp_path: Path) -> None:
    vd.run(
        vd.open_source(TESTS / "data/rollouts"),
        (),
        vd.open_sink(tmp_path / "set", format="robomimic"),
        workers=1,
    )
    found = judged(tmp_path / "set" / FILE, "", "none", "primary")
    source = vd.open_source(TESTS / "data/rollouts")
    actions, images = hashlib.sha256(), hashlib.sha256()
    for ref in source.episodes():
        read = source.read(ref)
        actions.update(read.arrays["action"].astype(np.float64).tobytes())
        for i in range(len(read)):
            images.update(read.frames[CAMERA].pixels(i).astype(np.float64).tobytes())
    assert (found["steps"], found["demos"]) == (105, 3)
    assert found["sha256"]["actions"] == actions.hexdigest()
    assert found["sha256"]["primary"] == images.hexdigest()
