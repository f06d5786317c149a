"""What several tests of mixtures look at, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

import vla_data as vd
from tests.mixture_sources import annotate
from tests.paths import TESTS


@pytest.fixture(scope="session")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rollouts as a LeRobot dataset with the annotation ``v1``; nobody changes it."""
    root = tmp_path_factory.mktemp("annotated") / "set"
    vd.run(vd.open_source(TESTS / "data/rollouts"), [], vd.open_sink(root), workers=1)
    annotate(root, "v1")
    return root
