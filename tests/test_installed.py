"""What to install from where, what hides our packages, and what a run says without being asked."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import vla_data as vd
from tests.paths import ROOT
from tests.rollouts import rollout, save
from vla_data.installed import install

CHECKOUT = '{"url": "file:///src/vla", "dir_info": {"editable": true}}'
FOLDER = '{"url": "file:///src/my vla", "dir_info": {}}'
GIT = '{"url": "https://host/vla.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}'


class Installed:
    def __init__(self, told: str | None) -> None:
        self._told = told

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self._told


@pytest.mark.parametrize(
    ("told", "command"),
    [
        (None, "pip install 'vla-data[hdf5]'"),
        (CHECKOUT, "pip install --editable '/src/vla[hdf5]'"),
        (FOLDER, "pip install '/src/my vla[hdf5]'"),
        (GIT, "pip install 'vla-data[hdf5] @ git+https://host/vla.git'"),
        ("no JSON", "pip install 'vla-data[hdf5]'"),
    ],
)
def test_a_hint_names_the_place_that_the_package_came_from(
    told: str | None, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed(told))
    assert install("hdf5") == command


@pytest.mark.parametrize("package", ["converters", "training_adapters"])
def test_a_folder_that_hides_one_of_our_packages_is_named(package: str, tmp_path: Path) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "rollouts").mkdir()
    code = "import vla_data as vd; from vla_data.formats import load_trainer as t\n"
    code += "vd.open_source('rollouts')" if package == "converters" else "t('openpi', 'gate')"
    save(tmp_path, "rollouts/a.npz", rollout(3))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert f"E023 hidden-package: {tmp_path.resolve() / package} hides {ROOT / package}" in last


def test_vla_train_says_what_hides_its_package(tmp_path: Path) -> None:
    (tmp_path / "training_adapters").mkdir()
    (tmp_path / "training_adapters/__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", "from vla_data.cli import train; train()", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    where = tmp_path.resolve() / "training_adapters"
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        [
            f"vla-train: E023 hidden-package: {where} hides {ROOT / 'training_adapters'}, which is a part of "
            "vla-data; rename it, or run from another folder"
        ],
    )


def test_a_run_says_why_episodes_were_quarantined_without_being_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.npz", "b.npz"):
        save(tmp_path / "in", name, rollout(12, seed=ord(name[0])))
    (tmp_path / "in/bad.npz").write_bytes(b"PK no zip")
    with caplog.at_level(logging.INFO, logger="vla_data"):
        report = vd.run(vd.open_source(tmp_path / "in"), (), vd.open_sink(tmp_path / "out"), workers=1)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.startswith("E108") or "bad.npz" in line
    (told,) = [text for text in report.warnings if text.startswith("quarantined: 1 of 3 episodes")]
    assert "bad.npz" in told
    lines: list[str] = []
    again = vd.run(
        vd.open_source(tmp_path / "in"), (), vd.open_sink(tmp_path / "two"), workers=1, on_problem=lines.append
    )
    assert len(lines) == 1
    assert not [text for text in again.warnings if text.startswith("quarantined")]
    assert "2 of 3 episodes" in repr(again)
    assert "<table>" in again._repr_html_()
