"""Equal frames give equal bytes, whatever the process did before."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.paths import ROOT


@pytest.mark.parametrize(("codec", "trials"), [("h264", 100), ("av1", 8)])
def test_the_same_bytes_whatever_was_in_memory(codec: str, trials: int) -> None:
    run = [sys.executable, str(ROOT / "tests/judges/same_video.py"), codec, str(trials)]
    done = subprocess.run(
        run, capture_output=True, text=True, timeout=280, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1"] * 6
