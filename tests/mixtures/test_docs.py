"""The Python of ``docs/mixtures.md`` and ``docs/advantages.md`` runs as it is printed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.mixture_sources import annotate
from tests.paths import ROOT, TESTS
from vla_data.mixtures import Loader, open_mixture

LIBERO = TESTS / "data/hdf5/libero_spatial0_demo.hdf5"


def blocks(name: str) -> list[str]:
    return re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs" / name).read_text(), flags=re.DOTALL | re.MULTILINE
    )


@pytest.fixture
def folder(tmp_path: Path, annotated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(annotated, tmp_path / "DATASET")
    vd.run(vd.open_source(LIBERO), [], vd.open_sink(tmp_path / "libero"), workers=1)
    annotate(tmp_path / "libero", "v1", unlabelled="success")
    contract = 'cameras = ["front"]\nimage_size = [224, 224]\nstate_dim = 16\naction_dim = 16\nchunk = 50\n'
    for file, root, camera in (("mixture", "DATASET", "primary"), ("annotated", "libero", "agentview_rgb")):
        entry = f'root = "{root}"\nannotation = "v1"\ncameras = {{ front = "observation.images.{camera}" }}\n'
        (tmp_path / f"{file}.toml").write_text(f"[contract]\n{contract}[[datasets]]\n{entry}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_mixtures() -> None:
    stream, transforms, own = blocks("mixtures.md")
    names: dict[str, Any] = {}
    exec(stream, names)
    assert names["batch"]["observation.images.front"].shape == (32, 224, 224, 3)
    assert names["batch"]["observation.images.front"].dtype == np.uint8
    assert names["state"]["batch"] == 0  # the epoch of 105 frames is over
    assert names["state"]["epoch"] == 1
    exec(transforms, names)
    loader = names["loader"]
    plain = loader.mixture.batch(0, loader.plan.positions(0))
    np.testing.assert_allclose(names["actions"], plain["action"], atol=1e-6)
    assert names["batch"]["observation.state"].shape == (8, 14)
    assert {"advantage", "value", "return", "positive"} <= set(names["batch"])
    state = plain["observation.state"][:1, :8]
    made = loader.transforms.forward({"observation.state": state, "task": plain["task"][:1]})
    assert np.array_equal(made["observation.state"], names["batch"]["observation.state"][:1])
    assert made["task"][0].endswith("Advantage: positive")
    exec(own, names)
    flipped = Loader(open_mixture("mixture.toml"), batch_size=2, transforms=[names["Flip"]()])
    assert np.array_equal(flipped.inverse(flipped.make(0, 0)["action"]), -flipped.make(0, 0)["action"])


@pytest.mark.usefixtures("folder")
def test_advantages() -> None:
    joined, numbers, indicator = blocks("advantages.md")
    names: dict[str, Any] = {}
    exec(joined, names)
    assert len(names["steps"]) == 4
    assert all(0 < step <= 50 for step in names["steps"])
    exec(numbers, names)
    assert names["advantages"].shape == (380,)
    printed = indicator.partition("# ")[2].strip()
    last = indicator.rpartition("\nindicator.")[2].partition("  #")[0]
    assert repr(eval(f"indicator.{last}", _ran(indicator))) == printed


def _ran(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(code, names)
    return names
