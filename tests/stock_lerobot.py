"""Interpreters with stock lerobot and PyTorch: ``scripts/test`` makes them, ``LEROBOT_PYTHON`` names others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT

_OWN = [str(ROOT / f".venv-lerobot-{version}/bin/python") for version in ("0.4.4", "0.6.1")]
PYTHONS = [
    p for p in os.environ.get("LEROBOT_PYTHON", os.pathsep.join(_OWN)).split(os.pathsep) if Path(p).exists()
]

needed = pytest.mark.skipif(not PYTHONS, reason="no interpreter with lerobot; scripts/test makes one")


def has_ours(python: str) -> bool:
    """Whether that interpreter could also import this package."""
    return subprocess.run([python, "-c", "import deflate, pytest"], capture_output=True).returncode == 0
