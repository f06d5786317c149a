"""What `LerobotSink` can hold: every dtype, one to four dimensions a step, splits, facts; and what it refuses."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as drawn_arrays

import vla_data as vd
from converters.lerobot import stats as lerobot_stats
from converters.lerobot.meta import fact_columns
from converters.lerobot.sink import LerobotSink
from converters.lerobot.source import LerobotSource
from converters.lerobot.stats import ArrayStats, VectorTotals, array_stats
from vla_data.errors import DataError
from vla_data.media.frames import Frames
from vla_data.statistics import QUANTILES, vector_stats

CAMERA = "observation.images.left"
SPLITS = ("train", "train", "val")


@dataclass(frozen=True, kw_only=True)
class EveryFeature:
    """Three episodes with a feature of every dtype and number of dimensions that LeRobot holds."""

    splits: Sequence[str | None] = SPLITS

    def episodes(self) -> Sequence[vd.EpisodeRef]:
        return [vd.EpisodeRef(f"odd/{i}", 1000) for i in range(len(self.splits))]

    def fingerprint(self, ref: vd.EpisodeRef) -> str:
        return hashlib.sha256(ref.id.encode()).hexdigest()

    def read(self, ref: vd.EpisodeRef) -> vd.Episode:
        number = int(ref.id[-1])
        random = np.random.default_rng(number)
        T = 3 + number  # noqa: N806
        holes = random.random((T, 6, 8)) < 0.1
        arrays: dict[str, Any] = {
            "action": random.random((T, 2)),
            "observation.state": random.random((T, 3)).astype(np.float32),
            "next.reward": random.random(T).astype(np.float32),
            "next.done": np.arange(T) == T - 1,
            "depth.z16": random.integers(0, 2**16, (T, 6, 8, 1), dtype=np.uint16),
            "depth.metres": np.where(holes, np.nan, random.random((T, 6, 8))).astype(np.float32),
            "matrix": random.random((T, 4, 4)),
            "four": random.random((T, 2, 3, 4, 2)).astype(np.float32),
            "one.by.one": random.random((T, 1, 1)).astype(np.float32),
            "flags": random.random((T, 3)) < 0.5,
            "text": np.array([f"größer {t} \U0001f600" for t in range(T)]),
        }
        for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"):
            limits = np.iinfo(dtype)
            high = min(int(limits.max), 2**53)
            arrays[f"whole.{dtype}"] = random.integers(max(int(limits.min), -high), high, (T, 2)).astype(dtype)
        pixels = random.integers(0, 256, (T, 8, 10, 3), dtype=np.uint8)
        split = self.splits[number]
        return vd.Episode(
            id=ref.id,
            arrays=arrays,
            frames={CAMERA: Frames(tuple(pixels), 8, 10)},
            task="look",
            index=np.arange(T),
            meta={
                "source": "odd",
                "source_length": T,
                "source_sha256": self.fingerprint(ref),
                **({"split": split} if split else {}),
                "seed": number,
                "scene": "kitchen",
                "success": number > 0,
                "env": "Look-v1",
                "episode_metadata": {
                    "file_path": f"a/{number}.hdf5",
                    "scores": [0.5, number],
                    "nested": {"a": None},
                },
            },
        )

    def schema(self, episode: vd.Episode) -> vd.Schema:
        features = {
            name: vd.Feature(
                dtype="string" if array.dtype.kind == "U" else str(array.dtype), shape=array.shape[1:] or (1,)
            )
            for name, array in episode.arrays.items()
        }
        axes = ("height", "width", "channels")
        for name, frames in episode.frames.items():
            features[name] = vd.Feature(dtype="image", shape=(frames.height, frames.width, 3), names=axes)
        return vd.Schema(features=features, fps=10.0, robot="panda")


def episode(**arrays: Any) -> vd.Episode:
    """The first of those episodes with other arrays; None takes one away."""
    source = EveryFeature()
    first = source.read(source.episodes()[0])
    changed = {name: array for name, array in {**first.arrays, **arrays}.items() if array is not None}
    return replace(first, arrays=changed)


def encode(changed: vd.Episode, schema: vd.Schema | None = None) -> Any:
    return LerobotSink(target=Path("nowhere")).encode(changed, schema or EveryFeature().schema(changed))


def refusal(changed: vd.Episode, schema: vd.Schema | None = None) -> tuple[str, str]:
    with pytest.raises(DataError) as caught:
        encode(changed, schema)
    return caught.value.code, caught.value.message


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("features") / "set"
    vd.run(EveryFeature(), (), vd.open_sink(root, images="png"), workers=1)
    return root


def test_values_dtypes_and_shapes_come_back(made: Path) -> None:
    source, again = EveryFeature(), LerobotSource(root=made)
    for want_ref, ref in zip(source.episodes(), again.episodes(), strict=True):
        want, found = source.read(want_ref), again.read(ref)
        assert found.arrays.keys() == want.arrays.keys()
        for name, array in want.arrays.items():
            assert found.arrays[name].dtype.kind == array.dtype.kind
            np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
        assert found.notes == ()
        ours, theirs = again.schema(found), source.schema(want)
        assert dict(ours.features) == dict(theirs.features)
        assert (ours.fps, ours.robot) == (10.0, "panda")


def test_facts_come_back(made: Path) -> None:
    source, again = EveryFeature(), LerobotSource(root=made)
    for want_ref, ref in zip(source.episodes(), again.episodes(), strict=True):
        want, found = source.read(want_ref).meta, again.read(ref).meta
        for key in ("seed", "scene", "success", "env", "split", "episode_metadata"):
            assert found[key] == want[key]
        assert found["origin"] == {"id": want_ref.id, "source": "odd"}


def test_facts_are_columns_for_others(made: Path) -> None:
    table = pq.read_table(made / "meta/episodes/chunk-000/file-000.parquet")
    assert table["file_path"].to_pylist() == ["a/0.hdf5", "a/1.hdf5", "a/2.hdf5"]
    assert "nested" not in table.column_names


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, None, False], pa.bool_()),
        ([None, None, 3], pa.int64()),
        ([0.5, 1.5], pa.float64()),
        (["a", "b"], pa.string()),
        ([["a"], ["b", "c"]], pa.list_(pa.string())),
        ([1, 0.5], None),
        ([True, 1], None),
        ([[], ["a"]], None),
        ([2**63], None),
        ([{"a": 1}], None),
        ([None], None),
    ],
)
def test_type_of_a_fact(values: list[Any], kind: Any) -> None:
    episodes = [
        vd.Published("e", "", {"facts": {"fact": value, "length": 1, "stats/x": 2, "": 3}}, "", bytes)
        for value in values
    ]
    assert fact_columns(episodes) == ({} if kind is None else {"fact": kind})


def test_conversion_to_lerobot_again_keeps_the_content(made: Path, tmp_path: Path) -> None:
    vd.run(LerobotSource(root=made), (), vd.open_sink(tmp_path / "again", images="png"), workers=1)
    first, again = vd.open_ledger(made).records, vd.open_ledger(tmp_path / "again").records
    assert [record.content_sha256 for record in again] == [record.content_sha256 for record in first]
    assert [record.split for record in again] == list(SPLITS)
    name = "data/chunk-000/file-000.parquet"
    assert (tmp_path / "again" / name).read_bytes() == (made / name).read_bytes()


def test_deep_verification_looks_at_every_feature(made: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vla_data", "verify", str(made), "--deep"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("splits", "ranges", "ledger"),
    [
        (("train", "train", "val"), {"train": "0:2", "val": "2:3"}, ["train", "train", "val"]),
        (("val", "train", "val"), {"train": "1:2"}, ["val", "train", "val"]),
        (("train", None, "val"), {"train": "0:1", "val": "2:3"}, ["train", None, "val"]),
        ((None, None, None), {"train": "0:3"}, ["train"] * 3),
        (("test", "test", "test"), {"test": "0:3"}, ["test"] * 3),
    ],
)
def test_splits(tmp_path: Path, splits: tuple[str | None, ...], ranges: dict[str, str], ledger: list[Any]) -> None:
    root = tmp_path / "set"
    vd.run(EveryFeature(splits=splits), (), vd.open_sink(root), workers=1)
    assert json.loads((root / "meta/info.json").read_text())["splits"] == ranges
    assert [record.split for record in vd.open_ledger(root).records] == ledger
    source = LerobotSource(root=root)
    assert [source.read(ref).meta.get("split") for ref in source.episodes()] == list(splits)
    done = subprocess.run([sys.executable, "-m", "vla_data", "verify", str(root), "--deep"], capture_output=True)
    assert done.returncode == 0


# -- what LeRobot can't hold -----------------------------------------------------------------------------

T = 3


@pytest.mark.parametrize(
    ("name", "array", "code", "words"),
    [
        ("x", np.zeros((T, 1, 1, 1, 1, 1)), "E232", "5 dimensions a step"),
        ("x", np.zeros(T, np.complex64), "E232", "dtype complex64"),
        ("x", np.zeros(T, np.float16), "E232", "dtype float16"),
        ("x", np.zeros(T, np.uint64), "E232", "dtype uint64"),
        ("x", np.array([b"a"] * T), "E232", "dtype |S1"),
        ("x", np.zeros(T, "datetime64[s]"), "E232", "dtype datetime64[s]"),
        (
            "x",
            np.array([["a", "b"]] * T),
            "E232",
            "texts a step; LeRobot features have one; --drop x leaves it out",
        ),
        ("x", np.zeros((T, 0)), "E203", "(0,) a step"),
        ("x", np.array([[0.0, 1], [2, np.nan], [4, 5]]), "E201", "x[1][1] is nan"),
        ("x", np.array([0.0, np.inf, 1]), "E201", "x[1] is inf"),
        ("timestamp", np.arange(T, dtype=np.float32), "E232", "its own timestamp"),
        ("episode_index", np.arange(T), "E232", "its own episode_index"),
        ("a/b", np.arange(T), "E232", "have a feature named a/b"),
        ("../x", np.arange(T), "E232", "have a feature named ../x"),
        ("", np.arange(T), "E232", "have a feature named "),
    ],
)
def test_what_lerobot_can_not_hold_is_refused(name: str, array: Any, code: str, words: str) -> None:
    found = refusal(episode(**{name: array}))
    assert found[0] == code
    assert words in found[1]


def test_feature_of_the_schema_that_is_not_there_is_refused() -> None:
    schema = EveryFeature().schema(episode())
    assert refusal(episode(matrix=None), schema) == ("E206", "the episode has no matrix, which its schema has")


def test_feature_of_another_shape_than_the_schema_says_is_refused() -> None:
    schema = EveryFeature().schema(episode())
    code, message = refusal(episode(matrix=np.zeros((T, 4, 3))), schema)
    assert (code, message) == ("E203", "matrix is float64(4, 3) a step; the schema says float64(4, 4)")


def test_camera_that_the_schema_leaves_out_is_not_encoded() -> None:
    first = episode()
    two = replace(first, frames={**first.frames, "observation.images.right": first.frames[CAMERA]})
    assert encode(two, EveryFeature().schema(first)).content == encode(first).content


# -- statistics ------------------------------------------------------------------------------------------


@given(
    values=drawn_arrays(np.float64, (7, 3, 2), elements=st.floats(-1e6, 1e6)),
    cut=st.integers(0, 7),
    holes=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2), st.integers(0, 1)), max_size=5),
)
def test_statistics_of_maps_are_numpys_however_they_come(
    values: Any, cut: int, holes: list[tuple[int, int, int]]
) -> None:
    for hole in holes:
        values[hole] = np.nan
    stats = ArrayStats(7, (3, 2))
    stats.add(values[:cut])
    stats.add(values[cut:])
    found = stats.to_json()
    table = values.reshape(-1, 2)
    assert found["min"] == np.nanmin(table, axis=0).tolist()
    assert found["max"] == np.nanmax(table, axis=0).tolist()
    np.testing.assert_allclose(found["mean"], np.nanmean(table, axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found["std"], np.nanstd(table, axis=0), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(found["q90"], np.nanquantile(table, 0.9, axis=0), rtol=1e-12)
    assert found["count"] == [7]


def test_quantiles_of_very_large_maps_are_of_every_kth_step(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((10, 4, 2)).astype(np.float32)
    whole = array_stats(values)
    monkeypatch.setattr(lerobot_stats, "MOST", 30)  # of 80 values: every third step
    pieces = ArrayStats(10, (4, 2))
    for at in (0, 1, 5):
        pieces.add(values[at : {0: 1, 1: 5, 5: 10}[at]])
    found = pieces.to_json()
    for name, q in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
        want = np.quantile(values[::3].reshape(-1, 2).astype(np.float64), q, axis=0)
        np.testing.assert_allclose(found[name], want, rtol=1e-12)
    np.testing.assert_allclose(found["mean"], whole["mean"], rtol=1e-12)
    assert (found["min"], found["max"]) == (whole["min"], whole["max"])


def test_map_without_anything_seen_has_zeros() -> None:
    found = array_stats(np.full((2, 3, 1), np.nan, np.float32))
    assert found.pop("count") == [2]
    assert all(value == [0.0] for value in found.values())
    assert len(found) == 9


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "uint8"])
@pytest.mark.parametrize("memory", [0, 64 << 20])
def test_totals_are_those_of_all_values_whatever_the_pieces(
    dtype: str, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lerobot_stats, "MEMORY", memory)
    monkeypatch.setattr(lerobot_stats, "_WAITING", 1_000)
    random = np.random.default_rng(0)
    values = (random.normal(0, 3, (5_000, 3)) * 10).astype(dtype)
    if values.dtype.kind == "f":
        values[random.random(values.shape) < 0.1] = np.nan
        values[7, 2] = np.inf
        values[:, 1] = np.nan
    totals = VectorTotals(3)
    for piece in np.array_split(values, 37):
        totals.add(piece)
    found, want = totals.to_json(), vector_stats(values)
    assert list(found) == list(want)
    exact = [*QUANTILES, "min", "max", "count"]
    assert {key: found[key] for key in exact} == {key: want[key] for key in exact}
    for key in ("mean", "std"):
        np.testing.assert_allclose(found[key], want[key], rtol=1e-12, atol=1e-12)
    if values.dtype.kind == "f":
        column = values[:, 0][np.isfinite(values[:, 0])].astype(np.float64)
        assert found["q10"][0] == np.quantile(column, 0.1)
        assert [found[key][1] for key in ("min", "q50", "std")] == [0, 0, 0]
