"""Trainers' own code, in environments of their own: ``scripts/judges NAME`` makes them and runs their tests.

OPENPI = Trainer("openpi")                       # OPENPI_REPO is its checkout, OPENPI_PYTHON has its packages
told = OPENPI.judge("openpi_step.py", str(out))  # the JSON of the line that the judge prints
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.lerobot_sets import Here
from tests.paths import ROOT, TESTS
from vla_data.core import Array, Episode, Source
from vla_data.core.curate import Step
from vla_data.preparing import prepare
from vla_data.preparing.job import Preparedness

LIBERO = ROOT / "tests/data/hdf5/libero_spatial0_demo.hdf5"


@dataclass(frozen=True)
class Trainer:
    """A trainer whose checkout and interpreter the environment names."""

    name: str

    @property
    def repo(self) -> Path:
        return Path(os.environ.get(f"{self.name.upper()}_REPO", "/nowhere"))

    @property
    def python(self) -> str:
        return os.environ.get(f"{self.name.upper()}_PYTHON", sys.executable)

    @property
    def needed(self) -> pytest.MarkDecorator:
        """Skips a test where there is no checkout."""
        word = f"{self.name.upper()}_REPO"
        return pytest.mark.skipif(
            not self.repo.exists(), reason=f"{word} names no checkout; scripts/judges {self.name} makes one"
        )

    def judge(self, judge: str, *words: str | Path, cwd: Path, **environment: str) -> dict[str, Any]:
        """What a judge of `tests/judges` says."""
        return self.run(TESTS / "judges" / judge, *words, cwd=cwd, **environment)

    def run(self, program: Path, *words: str | Path, cwd: Path, **environment: str) -> dict[str, Any]:
        """What a program says that runs a judge."""
        return said([self.python, program, *words], cwd=cwd, **environment)


def said(command: Sequence[str | Path], *, cwd: Path, **environment: str) -> dict[str, Any]:
    """The JSON of the line that a program prints after ``JUDGE``."""
    path = os.pathsep.join([str(TESTS / "judges/site"), str(ROOT)])
    own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=2300,
        env={**os.environ, **own, **environment},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    (line,) = [text for text in ran.stdout.splitlines() if text.startswith("JUDGE ")]
    told: dict[str, Any] = json.loads(line.removeprefix("JUDGE "))
    return told


def made(out: Path, trainer: str, source: Path, steps: Sequence[Step] = (), **options: Any) -> Preparedness:
    """What `vla-data prepare` makes, its images lossless."""
    given = {"engine": Here(), "images": {"images": "png"}, **options}
    return prepare(vd.open_source(source), steps, trainer=trainer, out=out, name="set", **given)


def episodes(source: Source | Path) -> list[Episode]:
    opened = vd.open_source(source) if isinstance(source, Path) else source
    return [opened.read(ref) for ref in opened.episodes()]


def chunk(actions: Array, t: int, horizon: int) -> Array:
    """The actions from a step on, the last one again after the end."""
    return actions[np.minimum(t + np.arange(horizon), len(actions) - 1)]


def matching(rows: Array, wanted: Array, tolerance: float = 1e-6) -> list[int]:
    """For each row the number of the wanted one that it equals; ``(N, ...)`` and ``(M, ...)``.

    Raises:
        AssertionError: a row equals none, or several.
    """
    found = []
    for row in rows:
        difference = np.abs(wanted.astype(np.float64) - row).reshape(len(wanted), -1).max(axis=1)
        near = np.flatnonzero(difference <= tolerance * max(1.0, float(np.abs(row).max())))
        assert len(near) == 1, (
            f"equals {len(near)} of {len(wanted)}; the nearest differs by {difference.min():.3g}"
        )
        found.append(int(near[0]))
    return found
