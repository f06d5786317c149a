"""Annotations in batches: the right frame's numbers, or one line that says why not."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import vla_data as vd
from tests.mixture_sources import Numbered, annotate
from tests.paths import TESTS
from vla_data.advantages.annotation import FOLDER
from vla_data.cli import cli
from vla_data.errors import UsageError
from vla_data.mixtures import Loader, member, open_mixture, parse

ROLLOUTS = TESTS / "data/rollouts"
NAMES = ("advantage", "value", "return", "positive")


@pytest.fixture
def root(annotated: Path, tmp_path: Path) -> Path:
    shutil.copytree(annotated, tmp_path / "set")
    return tmp_path / "set"


def config(*roots: Path | str, contract: Any = None, **entry: Any) -> dict[str, Any]:
    datasets = [{"root": str(root), "annotation": "v1", **entry} for root in roots]
    return {"contract": contract or {}, "datasets": datasets}


def table(root: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """The annotation's own file, by the names that a batch has."""
    rows = pq.read_table(root / FOLDER / "v1.parquet").to_pylist()
    return {(row["episode_index"], row["frame_index"]): {name: row[name] for name in NAMES} for row in rows}


def assert_joined(batch: dict[str, Any], rows: dict[tuple[int, int], dict[str, Any]]) -> None:
    keys = list(zip(batch["episode_index"].tolist(), batch["frame_index"].tolist(), strict=True))
    for name in NAMES:
        assert batch[name].tolist() == [rows[key][name] for key in keys], name


@pytest.mark.parametrize("episodes", [None, [0, 2], [2], [1, 2]])
def test_a_join_by_name_gives_the_numbers_of_the_batch(annotated: Path, episodes: list[int] | None) -> None:
    """With a subset of episodes, what is at a position is not what has that number."""
    entry = {} if episodes is None else {"episodes": episodes}
    mixture = open_mixture(config(annotated, **entry))
    batch = mixture.gather([0] * len(mixture), np.arange(len(mixture)))
    rows = table(annotated)
    assert_joined(batch, rows)
    assert len({key[0] for key in rows}) == 3
    assert set(batch["episode_index"].tolist()) == set(episodes or [0, 1, 2])
    assert set(batch["episode_position"].tolist()) == set(range(len(episodes or [0, 1, 2])))
    assert [str(batch[name].dtype) for name in NAMES] == ["float64", "float64", "int64", "bool"]
    assert all(batch[name].shape == (len(mixture),) for name in NAMES)
    assert 0 < batch["positive"].sum() < len(mixture) or episodes == [2]


def test_actions_are_of_the_frame_that_the_numbers_say(annotated: Path) -> None:
    mixture = open_mixture(config(annotated, episodes=[1, 2]))
    source = vd.open_source(annotated)
    stored = {int(ref.id[-6:]): source.read(ref).arrays["action"] for ref in source.episodes()}
    batch = mixture.batch(3, np.arange(40))
    for row, (episode, frame) in enumerate(zip(batch["episode_index"], batch["frame_index"], strict=True)):
        assert np.array_equal(batch["action"][row, 0], stored[int(episode)][frame])


@pytest.mark.parametrize("freq", [2.5, 10])
def test_resampled_rows_have_the_annotation_of_the_frame_that_they_show(root: Path, freq: float) -> None:
    path = root / "meta/vla_data/schema.json"
    path.write_text(path.read_text().replace('"rotation": "undeclared"', '"rotation": "rotvec"'))
    mixture = open_mixture(config(root, episodes=[1, 2], contract={"action_freq": freq, "cameras": ["primary"]}))
    rows = mixture.members[0].lengths
    batch = mixture.gather([0] * len(mixture), np.arange(len(mixture)))
    assert_joined(batch, table(root))
    assert batch["frame_position"].tolist() == [i for n in rows for i in range(n)]
    source = vd.open_source(root)
    shown = {int(ref.id[-6:]): source.read(ref).frames["observation.images.primary"] for ref in source.episodes()}
    for row in range(len(mixture)):
        pixels = shown[int(batch["episode_index"][row])].pixels(int(batch["frame_index"][row]))
        assert np.array_equal(batch["observation.images.primary"][row], pixels)


def test_the_stream_is_that_without_an_annotation(annotated: Path, tmp_path: Path) -> None:
    cached = {**config(annotated), "cache": str(tmp_path / "packs")}
    for _ in range(2):  # the second finds packs
        plain = Loader(open_mixture(config(annotated, annotation="")), batch_size=4, workers=1)
        one = Loader(open_mixture(cached), batch_size=4, workers=1)
        assert one.state_dict() == plain.state_dict()
        for a, b in zip(plain, one, strict=True):
            assert set(b) - set(a) == set(NAMES)
            assert all(np.array_equal(a[name], b[name]) for name in a)
            assert_joined(b, table(annotated))


def test_annotations_travel_to_workers(annotated: Path) -> None:
    mixture = open_mixture(config(annotated, episodes=[2]))
    again = pickle.loads(pickle.dumps(mixture))
    assert_joined(again.batch(0, np.arange(9)), table(annotated))


# -- numbers of datasets without annotations -----------------------------------------------------------


def test_numbers_are_the_datasets_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member, "open_source", lambda root, **_: Numbered(lengths=(2, 3, 4, 1), bad=(1,)))
    mixture = open_mixture({"contract": {}, "datasets": [{"root": "a", "episodes": [3, 1, 2]}]})
    batch = mixture.gather([0] * 5, range(5))
    assert batch["episode_index"].tolist() == [2, 2, 2, 2, 3]
    assert batch["action"][:, 0, 1].tolist() == [2, 2, 2, 2, 3]  # which a source of numbers says of itself
    assert batch["episode_position"].tolist() == [0, 0, 0, 0, 1]
    assert batch["frame_index"].tolist() == batch["frame_position"].tolist() == [0, 1, 2, 3, 0]


def test_an_episode_of_a_format_without_numbers_has_its_position() -> None:
    whole = open_mixture({"contract": {}, "datasets": [{"root": str(ROLLOUTS)}]})
    some = open_mixture({"contract": {}, "datasets": [{"root": str(ROLLOUTS), "episodes": [2, 1]}]})
    assert whole.members[0].numbers == [0, 1, 2]
    assert some.members[0].numbers == [1, 2]
    assert [ref.id for ref in some.members[0].refs] == [ref.id for ref in whole.members[0].refs][1:]


# -- what is refused ------------------------------------------------------------------------------------


def other_data(root: Path) -> None:
    """The annotation of a dataset of as many episodes and frames, with other numbers in them."""
    path = root / FOLDER / "v1.parquet"
    rows = pq.read_table(path)
    facts = json.loads(rows.schema.metadata[b"vla_data"])
    facts["dataset"]["sha256"] = "0" * 64
    pq.write_table(rows.replace_schema_metadata({b"vla_data": json.dumps(facts).encode()}), path)


def rewrite(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        path = root / FOLDER / "v1.parquet"
        rows = pq.read_table(path)
        pq.write_table(change(rows).replace_schema_metadata(rows.schema.metadata), path)

    return edit


def damage(root: Path) -> None:
    path = root / FOLDER / "v1.parquet"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (other_data, "E301", "made for other data: not the same sha256.*make it again"),
        (rewrite(lambda rows: rows.slice(1)), "E302", r"1 frames have no row \(as episode 0, frame 0\)"),
        (rewrite(lambda rows: rows.slice(0, len(rows) - 5)), "E302", "5 frames have no row"),
        (rewrite(lambda rows: pa.concat_tables([rows, rows.slice(3, 2)])), "E302", "2 rows repeat a frame"),
        (rewrite(lambda rows: rows.drop_columns("value")), "E302", "no column value"),
        (
            rewrite(
                lambda rows: rows.drop_columns("value").append_column(
                    "value", rows["episode_index"].cast("string")
                )
            ),
            "E302",
            "no numbers in value",
        ),
        (
            rewrite(
                lambda rows: rows.drop_columns("advantage").append_column(
                    "advantage", pa.array(np.full(len(rows), np.nan))
                )
            ),
            "E302",
            "advantage is not finite",
        ),
        (
            rewrite(lambda rows: rows.set_column(0, "episode_index", pa.array(np.arange(len(rows)) + 9))),
            "E301",
            "rows are of no frame here",
        ),
        (
            rewrite(
                lambda rows: rows.drop_columns("positive").append_column(
                    "positive", pa.compute.invert(rows["positive"])
                )
            ),
            "E302",
            "positive is not what advantage and thresholds give",
        ),
        (damage, "E302", "can't be read"),
        (lambda root: (root / FOLDER / "v1.parquet").unlink(), "E003", "no annotation 'v1'; it has: none"),
        (lambda root: (root / FOLDER / "v1.parquet").rename(root / FOLDER / "v2.parquet"), "E003", "it has: v2"),
    ],
)
def test_a_stale_partial_or_unknown_annotation_is_refused(
    root: Path, change: Callable[[Path], Any], code: str, message: str
) -> None:
    change(root)
    with pytest.raises(UsageError, match=f"{code}.*set: .*{message}") as caught:
        open_mixture(config(root))
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=code):  # also where the chosen episodes would be covered
        open_mixture(config(root, episodes=[1]))


@pytest.mark.parametrize("tag", ["../v1", "v 1", ".v1"])
def test_a_tag_is_a_name(annotated: Path, tag: str) -> None:
    with pytest.raises(UsageError, match=r"E001.*set: .*is not a tag"):
        open_mixture(config(annotated, annotation=tag))


def test_other_formats_have_none() -> None:
    with pytest.raises(UsageError, match=r"E003.*rollouts: .*needs a LeRobot dataset"):
        open_mixture(config(ROLLOUTS))


def test_all_datasets_have_one_or_none(annotated: Path) -> None:
    facts = config(annotated, ROLLOUTS)
    facts["datasets"][1]["annotation"] = ""
    with pytest.raises(UsageError, match=r"E231.*annotation of rollouts; set has one"):
        open_mixture(facts)


def test_labels_are_of_all_datasets_or_of_none(root: Path) -> None:
    annotate(root, "bare", share=None)
    entries = [{"root": str(root), "name": name, "annotation": name} for name in ("v1", "bare")]
    with pytest.raises(UsageError, match=r"E302.*annotation of bare has no labels.*--positive-share"):
        open_mixture({"contract": {}, "datasets": entries})
    batch = open_mixture({"contract": {}, "datasets": entries[1:]}).gather([0], [0])
    assert set(NAMES) - set(batch) == {"positive"}


def test_an_extra_of_the_same_name_is_refused(annotated: Path) -> None:
    with pytest.raises(UsageError, match="E003"):  # there is none in this dataset
        open_mixture(config(annotated, contract={"extras": ["advantage"]}))


def test_the_command_line_refuses_in_one_line(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps(config(root)))
    assert CliRunner().invoke(cli, ["mixture", str(path)]).exit_code == 0
    other_data(root)
    done = CliRunner().invoke(cli, ["mixture", str(path)])
    assert isinstance(done.exception, UsageError) or done.exit_code == 2
    assert "E301" in (done.stderr + str(done.exception))


def test_recap_configurations_name_one_too(annotated: Path) -> None:
    entry = {"root": str(annotated), "data_features_name_mapping": {"actions": "action"}, "annotation": "v1"}
    config = parse({"dataset_mixture": {"datasets": [entry], "action_freq": None}})
    assert config.datasets[0].annotation == "v1"
    assert set(NAMES) <= set(open_mixture(config).gather([0], [0]))
