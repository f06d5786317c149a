"""What others have in a folder of a store, or put there while a run works, is neither removed nor replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import vla_data as vd
from tests.lerobot_sets import Here
from tests.paths import TESTS
from vla_data.errors import TargetExistsError
from vla_data.files import write as io
from vla_data.jobs.upload import Uploaded
from vla_data.remote.storage import Storage

ROLLOUTS = TESTS / "data/rollouts"
THEIRS = b"years of work"


class Stop(BaseException):
    """What no code of ours catches, as a kill would be."""


@dataclass
class Place:
    """A store on this machine, for a sink of whose uploads this machine's cache knows."""

    there: Path
    here: Path

    def run(self, *, replace: bool = False, during: Callable[[Path], object] | None = None) -> None:
        sink = Uploaded(vd.open_sink(self.here / "out", format="lerobot"), Storage(f"file://{self.there}"))
        source = vd.open_source(ROLLOUTS)
        vd.run(source, (), sink, replace=replace, engine=Here(), before_publishing=during)

    def take(self, name: str) -> None:
        """Put a file of somebody else there."""
        path = self.there / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(THEIRS)

    def files(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.there)): p.read_bytes() for p in self.there.rglob("*") if p.is_file()}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("VLA_DATA_CACHE", str(tmp_path / "cache"))
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    return Place(tmp_path / "there", tmp_path / "here")


NAMES = (
    "data/chunk-000/file-000.parquet",
    *(pytest.param(name, marks=pytest.mark.nightly) for name in ("notes.txt", "meta/info.json", "sub/x")),
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("old", [False, True])
def test_what_comes_while_a_run_works_stays(name: str, old: bool, place: Place) -> None:
    if old:
        place.run()
    before = place.files()
    with pytest.raises(TargetExistsError):
        place.run(replace=old, during=lambda _: place.take(name))
    assert place.files() == before | {name: THEIRS}


@pytest.mark.parametrize("when", ["before", "while"])
def test_what_comes_after_a_kill_stays(when: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that is gone on with may write over what it had sent, and nothing else."""

    def kill(step: str, path: Path) -> None:
        if step == "upload" and path.name == "file-000.parquet":
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(io, "hook", kill)
        with pytest.raises(Stop):
            place.run()
    sent = place.files()
    assert ".vla-data-upload" in sent
    if when == "before":
        place.take("sub/x")
    with pytest.raises(TargetExistsError, match="nothing there is touched"):
        place.run(during=lambda _: place.take("sub/x"))
    assert place.files() == sent | {"sub/x": THEIRS}
    (place.there / "sub/x").unlink()
    place.run()
    assert not (place.there / ".vla-data-upload").exists()
    assert vd.verify(place.there).ok


def test_a_dataset_below_another_is_not_replaced_with_it(place: Place) -> None:
    place.run()
    inner = Place(place.there / "sub/inner", place.here / "inner")
    for folder in (inner.here, inner.there):
        folder.mkdir(parents=True)
    inner.run()
    before = place.files()
    with pytest.raises(TargetExistsError, match="another dataset inside"):
        place.run(replace=True)
    assert place.files() == before


def test_what_was_there_is_replaced_with_the_old_dataset(place: Place) -> None:
    """As on a disk: whoever replaces a dataset replaces its folder."""
    place.run()
    before = place.files()
    place.take("notes.txt")
    place.run(replace=True)
    assert place.files() == before
