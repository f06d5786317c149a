"""``verify --against`` judges by what the source's files have, whatever the reader makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import vla_data as vd
from converters.lerobot.source import LerobotSource
from tests.lerobot_sets import FILE, Here, change_table, numbers, vector, write
from vla_data.steps.features import Rename, SelectFeatures
from vla_data.verification.check import verify

FEATURES = {"action": vector(), "observation.state": vector(), "gone": vector()}
COLUMNS = {"action": numbers().tolist(), "observation.state": numbers(4, 3, 1).tolist()}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source and a dataset made of it, under other names and without one feature."""
    root = tmp_path_factory.mktemp("evidence")
    source = write(root / "in", [{**COLUMNS, "extra": [1.0] * 4}] * 2, {**FEATURES, "extra": vector(1)})
    steps = (Rename(names=(("observation.state", "observation.pose"),)), SelectFeatures(drop=("extra",)))
    vd.run(LerobotSource(root=source), steps, vd.open_sink(root / "out"), engine=Here())
    return source, root / "out"


def damages(source: Path, out: Path) -> list[str]:
    return [damage.problem for damage in verify(out, against=source).damages]


def test_a_dataset_that_has_everything_is_right_and_what_is_declared_alone_is_named(
    sets: tuple[Path, Path],
) -> None:
    verdict = verify(sets[1], against=sets[0])
    assert not verdict.damages
    assert verdict.checked["against"]["not_stored"] == ["gone"]


def changed_reader(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """The reader makes a mistake, of the source and of the dataset alike."""
    read = LerobotSource.read

    def mistaken(self: LerobotSource, ref: vd.EpisodeRef) -> vd.Episode:
        episode = read(self, ref)
        return replace(episode, arrays=change(dict(episode.arrays)))

    monkeypatch.setattr(LerobotSource, "read", mistaken)


def test_a_feature_that_the_reader_passes_over_is_missed(
    sets: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        LerobotSource, "_is_left_out", lambda self, name: name == "action" or name in self.unwanted
    )
    read = LerobotSource.read
    monkeypatch.setattr(LerobotSource, "read", lambda self, ref: replace(read(self, ref), notes=()))
    vd.run(LerobotSource(root=sets[0]), (), vd.open_sink(tmp_path / "out"), engine=Here())
    found = damages(sets[0], tmp_path / "out")
    assert found
    assert any("lacks action, which the source has or declares" in text for text in found)


def test_values_that_the_reader_mistakes_are_found(
    sets: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_reader(monkeypatch, lambda arrays: {**arrays, "action": arrays["action"] + 1})
    assert any("action differs from the files of its source in row 0" in text for text in damages(*sets))


def test_a_source_that_changed_where_the_reader_is_wrong_too_is_found(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    root = write(tmp_path / "in", [{**COLUMNS, "extra": [1.0] * 4}] * 2, {**FEATURES, "extra": vector(1)})
    change_table(
        root / FILE,
        lambda table: table.set_column(
            table.column_names.index("action"),
            "action",
            pa.array([[9.0] * 3] * len(table), pa.list_(pa.float32())),
        ),
    )
    assert any(text.startswith("action differs from") for text in damages(root, sets[1]))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(numbers().tolist(), pa.large_list(pa.float64())),
        pa.array(numbers().tolist(), pa.list_view(pa.float32())),
        pa.ListArray.from_arrays(
            pa.array([0, 3, 6, 9, 12], pa.int32()), pa.array(numbers().reshape(-1)).dictionary_encode()
        ),
    ],
    ids=lambda column: str(column.type),
)
def test_evidence_is_the_same_whatever_the_encoding(column: Any, tmp_path: Path) -> None:
    try:
        root = write(tmp_path / "in", [{"action": column}], {"action": vector()})
    except pa.ArrowNotImplementedError:  # Parquet has no such type
        return
    source = LerobotSource(root=root)
    assert source.evidence(source.episodes()[0]) == {"action": numbers().tolist()}
