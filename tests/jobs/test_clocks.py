"""No byte of a dataset and no end of a run depends on the clock of the wall, which may be wrong or jump."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import tree_hash
from tests.paths import TESTS
from tests.rollouts import rollout, save

_PROGRAM = """
import sys, time
import numpy as np
import vla_data as vd
print(time.time())
vd.run(vd.open_source("in"), (), vd.open_sink("out", images="jpeg"), workers=1, replace=len(sys.argv) > 1)
assert vd.verify("out", deep=True).ok
writer = vd.RolloutWriter("recorded", fps=5)
for _ in range(2):
    episode = writer.episode(task="put carrot on plate")
    episode.add(image=np.zeros((8, 8, 3), np.uint8), action=np.zeros(7, np.float32), success=True)
    episode.end(image=np.zeros((8, 8, 3), np.uint8))
writer.close()
assert len(vd.open_source("recorded").episodes()) % 2 == 0
"""


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler, or nothing can be preloaded")
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, TESTS / "clock.c", "-ldl"], check=True)
    return library


def test_every_clock_gives_the_same_bytes(clock: Path, tmp_path: Path) -> None:
    for number in range(2):
        save(tmp_path / "in", f"{number}.npz", rollout(3, seed=number, size=(8, 8)))
    hashes, times = set(), set()
    for says, jumps in (("1", ""), ("300000000", ""), ("7258118400", ""), ("1700000000", "86"), ("", "")):
        chosen = {"LD_PRELOAD": str(clock), "CLOCK_SAYS": says, **({"CLOCK_JUMPS": jumps} if jumps else {})}
        words = [sys.executable, "-c", _PROGRAM, *(["again"] if hashes else [])]
        found = subprocess.run(
            words, cwd=tmp_path, env={**os.environ, **(chosen if says else {})}, capture_output=True, text=True
        )
        assert found.returncode == 0, found.stderr
        hashes.add(tree_hash(tmp_path / "out"))
        times.add(found.stdout.partition(".")[0])
    assert len(times) == 5  # the clocks did differ
    assert len(hashes) == 1
    assert len(list((tmp_path / "recorded").glob("*.npz"))) == 10
