"""``inspect`` at a URL: what one episode needs is fetched, and what is said of it is what is said of the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.rlds import tfds_json
from tests import rlds_toys
from tests.hdf5_files import robomimic_file
from tests.lerobot_sets import numbers, vector, write
from tests.rollouts import rollout, save
from tests.stores import put_tree
from vla_data.remote.storage import Storage
from vla_data.report.inspect import survey

pytestmark = [
    pytest.mark.timeout(200),
    # s3fs closes its connections when the interpreter ends, and not before.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def lerobot(root: Path) -> dict[str, Any]:
    episode = {"action": numbers().tolist(), "observation.x": numbers(4, 3, 2).tolist()}
    write(root, [episode] * 9, {"action": vector(), "observation.x": vector()}, version="v2.1")
    return {}


def rlds(root: Path) -> dict[str, Any]:
    rlds_toys.write(root, {"action": tfds_json.tensor((3,), "float32")}, {"action": rlds_toys.numbers(3)})
    return {"fps": 5, "task": "x"}


def hdf5(root: Path) -> dict[str, Any]:
    root.mkdir()
    for number in range(3):
        robomimic_file(root / f"{number}.h5")
    return {"task": "x"}


def ppo(root: Path) -> dict[str, Any]:
    root.mkdir()
    for number in range(3):
        save(root, f"{number}.npz", rollout(6, seed=number))
    return {}


SAME = ("format", "features", "undeclared", "kinds", "fps", "robot")
MAKERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "lerobot": lerobot,
    "rlds": rlds,
    "hdf5": hdf5,
    "ppo_rollout": ppo,
}


@pytest.mark.parametrize("format", MAKERS)
def test_little_is_fetched_and_the_same_is_said(
    s3: str, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLA_DATA_CACHE", str(tmp_path / "cache"))
    options = MAKERS[format](tmp_path / "in")
    put_tree(tmp_path / "in", f"{s3}/inspect/{format}")
    fetched: list[str] = []
    download = Storage.download

    def counted(self: Storage, name: str, file: Path) -> None:
        fetched.append(name)
        download(self, name, file)

    monkeypatch.setattr(Storage, "download", counted)
    whole = survey(str(tmp_path / "in"), **options)
    part = survey(f"{s3}/inspect/{format}", **options)
    assert {key: part[key] for key in SAME} == {key: whole[key] for key in SAME}
    data = [name for name in fetched if name.endswith((".parquet", ".h5")) or ".tfrecord" in name]
    assert len(data) == len(set(data)) == (0 if format == "ppo_rollout" else 1)
    assert not (tmp_path / "cache").exists() or format == "ppo_rollout"
    if format != "ppo_rollout":
        told = part["fetched"]
        assert told["files"] == len(fetched)
        assert told["of_files"] == len([path for path in (tmp_path / "in").rglob("*") if path.is_file()])
    if format in ("lerobot", "rlds", "ppo_rollout"):
        assert part["episodes"] == whole["episodes"]


def test_all_of_it_is_read_on_request(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLA_DATA_CACHE", str(tmp_path / "cache"))
    lerobot(tmp_path / "in")
    put_tree(tmp_path / "in", f"{s3}/inspect/all")
    facts = survey(f"{s3}/inspect/all", everything=True)
    assert facts["readable"] == 9
    assert "fetched" not in facts
