"""A run that is continued: whatever became of receipts and blobs that wait, the result is the undisturbed one."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import vla_data as vd
from tests.faults import tree_hash
from tests.jobs.test_strangers import Here
from tests.rollouts import rollout, save


class _StopError(Exception):
    """Ends a run when its parts are made."""


def _stop() -> None:
    raise _StopError


def _run(folder: Path, meanwhile: Callable[[], object] = lambda: None) -> str:
    sink = vd.open_sink(folder / "out", format="lerobot", images="jpeg")
    vd.run(vd.open_source(folder / "in"), (), sink, engine=Here(meanwhile))
    return tree_hash(folder / "out")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("undisturbed")
    _fill(folder)
    return _run(folder)


def _fill(folder: Path) -> None:
    for number in range(3):
        save(folder / "in", f"{number}.npz", rollout(3, seed=number, size=(8, 8)))


def _edited(change: Callable[[Any], object]) -> Callable[[Path], object]:
    """What a receipt says is changed, and its digest is not."""

    def edit(receipt: Path) -> None:
        head, _, body = receipt.read_bytes().partition(b"\n")
        facts = json.loads(body)
        change(facts)
        receipt.write_bytes(head + b"\n" + json.dumps(facts).encode())

    return edit


def _as_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _flipped(seed: int) -> Callable[[Path], object]:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        at = random.Random(seed).randrange(len(data))
        data[at] ^= 1 << seed % 8
        path.write_bytes(data)

    return flip


RECEIPTS: Final[dict[str, Callable[[Path], object]]] = {
    "an entry less": _edited(lambda facts: facts["episodes"].pop()),
    "an entry twice": _edited(lambda facts: facts["episodes"].append(facts["episodes"][0])),
    "other buckets": _edited(lambda facts: facts["episodes"][0]["record"]["spans"][0].update(stop=2)),
    "another summary": _edited(lambda facts: facts["episodes"][0].update(summary={})),
    "another schema": _edited(lambda facts: facts["episodes"][0].update(schema="{")),
    "another status": _edited(lambda facts: facts["episodes"][0]["record"].update(status="rejected")),
    "deep": lambda path: path.write_bytes(b"[" * 10**6),
    "a list": lambda path: path.write_bytes(b"[]"),
    "nothing": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, 300),
    "without its first line": lambda path: path.write_bytes(path.read_bytes().partition(b"\n")[2]),
    "a FIFO": _as_fifo,
    **{f"flipped {seed}": _flipped(seed) for seed in range(12)},
}
BLOBS: Final[dict[str, Callable[[Path], object]]] = {
    "gone": lambda path: path.unlink(),
    "cut": lambda path: os.truncate(path, 100),
    "a FIFO": _as_fifo,
    **{f"flipped {seed}": _flipped(seed) for seed in range(4)},
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("ending", "change"),
    [("json", name) for name in RECEIPTS] + [("blob", name) for name in BLOBS],
    ids=lambda value: value,
)
def test_what_waits_is_believed_only_as_it_was_written(
    ending: str, change: str, undisturbed: str, tmp_path: Path
) -> None:
    _fill(tmp_path)
    with pytest.raises(_StopError):
        _run(tmp_path, _stop)
    (file,) = (tmp_path / ".out.vla-data/parts").glob(f"*.{ending}")
    (RECEIPTS if ending == "json" else BLOBS)[change](file)
    assert _run(tmp_path) == undisturbed


def test_what_is_as_it_was_is_not_made_again(undisturbed: str, tmp_path: Path) -> None:
    _fill(tmp_path)
    with pytest.raises(_StopError):
        _run(tmp_path, _stop)
    (blob,) = (tmp_path / ".out.vla-data/parts").glob("*.blob")
    inode = blob.stat().st_ino
    seen: list[int] = []
    assert _run(tmp_path, lambda: seen.append(blob.stat().st_ino)) == undisturbed
    assert seen == [inode]
