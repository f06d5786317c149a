"""Copies that layouts make of a stranger's dataset: one error of ours or a copy, whatever its metadata are."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vla_data as vd
from tests.jobs.test_strangers import Here
from tests.odd_places import changed, places
from tests.rollouts import rollout, save
from vla_data.advantages.frame_table import FrameTable
from vla_data.advantages.job import annotate, read
from vla_data.advantages.labels import Labels
from vla_data.errors import VlaDataError

EPISODES: Final = "meta/episodes/chunk-000/file-000.parquet"
DATA: Final = "data/chunk-000/file-000.parquet"
ODD: Final = (None, True, -1, 2**70, 1e300, "x", [], {}, [[]], {"a": 1}, [None])


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    (root / "rollouts").mkdir()
    for number in range(2):
        save(root / "rollouts", f"{number}.npz", rollout(4, seed=number, size=(16, 16)))
    for version in ("v3.0", "v2.1"):
        sink = vd.open_sink(root / version, format="lerobot", images="png", version=version)
        vd.run(vd.open_source(root / "rollouts"), (), sink, engine=Here())
    table = FrameTable.read(root / "v3.0")
    episode = np.repeat(table.numbers, table.episodes.ends - table.episodes.starts)
    columns = {"episode_index": episode, "frame_index": table.episodes.frame_index()}
    pq.write_table(pa.table({**columns, "value": -np.linspace(0, 1, len(table))}), root / "values.parquet")
    return root


@pytest.fixture
def annotated(sets: Path, tmp_path: Path) -> Callable[..., str]:
    """Annotates a changed copy of a dataset; the code of the error that it ends with, or nothing."""

    def go(version: str, layout: str, change: Callable[[Path], None]) -> str:
        root, target = tmp_path / "set", tmp_path / "copy"
        shutil.copytree(sets / version, root)
        change(root)
        try:
            annotate(
                root,
                tag="t",
                values=sets / "values.parquet",
                labels=Labels(share=0.3),
                unlabelled="success",
                layout=layout,
                copy_to=target,
            )
            read(target, layout, tag="t")
        except VlaDataError as error:
            assert "\n" not in str(error)
            return error.code
        finally:
            for path in tmp_path.iterdir():
                shutil.rmtree(path)
        return ""

    return go


def test_odd_values_of_v21(annotated: Callable[..., str], sets: Path) -> None:
    draw = random.Random(0)
    found = set()
    for name in ("episodes.jsonl", "tasks.jsonl", "episodes_stats.jsonl"):
        lines = (sets / "v2.1/meta" / name).read_text().splitlines()
        whole = json.loads(lines[0])
        known = [place for place in places(whole) if "image" not in str(place)]
        for place in draw.sample(known, min(10, len(known))):
            line = json.dumps(changed(whole, place, draw.choice(ODD)))

            def change(root: Path, name: str = name, text: str = "\n".join([line, *lines[1:]])) -> None:
                (root / "meta" / name).write_text(text + "\n")

            found.add(annotated("v2.1", "task-text", change))
    assert "E302" in found


ODD_COLUMNS: Final[tuple[Callable[[int], pa.Array], ...]] = (
    lambda n: pa.array(["x"] * n),
    lambda n: pa.array([[1.0]] * n),
    lambda n: pa.array([[{"a": 1}]] * n),
    lambda n: pa.array(np.full(n, np.nan)),
    lambda n: pa.array([2**62] * n),
    lambda n: pa.nulls(n),
)


@pytest.mark.parametrize("column", ["tasks", "episode_index", "stats/task_index/min"])
@pytest.mark.parametrize("made", ODD_COLUMNS)
def test_odd_columns_of_episodes(
    annotated: Callable[..., str], column: str, made: Callable[[int], pa.Array]
) -> None:
    def change(root: Path) -> None:
        table = pq.read_table(root / EPISODES)
        at = table.column_names.index(column)
        pq.write_table(table.set_column(at, column, made(len(table))), root / EPISODES)

    assert annotated("v3.0", "task-text", change) in {"", "E302"}


@pytest.mark.parametrize("made", ODD_COLUMNS)
def test_odd_columns_of_language(annotated: Callable[..., str], made: Callable[[int], pa.Array]) -> None:
    def change(root: Path) -> None:
        table = pq.read_table(root / DATA)
        pq.write_table(table.append_column("language_persistent", made(len(table))), root / DATA)

    assert annotated("v3.0", "lerobot-recap", change) in {"", "E302"}


@pytest.mark.parametrize("text", [b"{", b"[]", b"null", b"[" * 100_000, b'{"info": null}', b'{"a": NaN}', b"\xff"])
def test_odd_description_in_the_data_is_copied_as_it_is(annotated: Callable[..., str], text: bytes) -> None:
    def change(root: Path) -> None:
        table = pq.read_table(root / DATA)
        pq.write_table(table.replace_schema_metadata({b"huggingface": text}), root / DATA)

    assert annotated("v3.0", "lerobot-recap", change) == ""


def test_what_is_larger_than_the_disk_is_told_before_it_is_copied(annotated: Callable[..., str]) -> None:
    def change(root: Path) -> None:
        (root / "notes").write_bytes(b"")
        os.truncate(root / "notes", shutil.disk_usage(root).free + (1 << 30))

    assert annotated("v3.0", "task-text", change) == "E701"


def test_damaged_ledger_is_told(annotated: Callable[..., str]) -> None:
    assert (
        annotated("v3.0", "task-text", lambda root: os.truncate(root / "meta/vla_data/ledger.parquet", 9))
        == "E601"
    )
