"""What several tests of mixtures look at, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vla_data as vd
from tests.mixture_sources import annotate
from tests.paths import TESTS
from vla_data.mixtures import Mixture, member, open_mixture


@pytest.fixture(scope="session")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rollouts as a LeRobot dataset with the annotation ``v1``; nobody changes it."""
    root = tmp_path_factory.mktemp("annotated") / "set"
    vd.run(vd.open_source(TESTS / "data/rollouts"), [], vd.open_sink(root), workers=1)
    annotate(root, "v1")
    return root


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Mixture]:
    """``mixed(sources, contract, **rest)``: a mixture of sources in memory, ``s0`` and so on."""

    def make_one(sources: list[Any], contract: Any = None, **rest: Any) -> Mixture:
        by_root = {f"s{i}": source for i, source in enumerate(sources)}
        monkeypatch.setattr(member, "open_source", lambda root, **_: by_root[root])
        form = {"state_dim": 6, "action_dim": 8, "chunk": 3, **(contract or {})}
        return open_mixture({"contract": form, "datasets": [{"root": root} for root in by_root], **rest})

    return make_one
