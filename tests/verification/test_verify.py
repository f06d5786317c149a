"""`vla-data verify` finds every damage and names the file; `vla-data repair` gives the bytes back."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import vla_data as vd
from builders.ppo_sft_aligned.definition import Definition
from converters.rlds import check as rlds_check
from converters.rlds import tfrecord
from tests.rollouts import rollout, save
from vla_data.cli.repair import command as repair_command
from vla_data.cli.verify import command as verify_command
from vla_data.core.ledger import Ledger
from vla_data.core.manifest import is_made_by, upgraded
from vla_data.core.provenance import to_json
from vla_data.errors import LockedError, MachineError, TargetExistsError, UsageError, VerifyError
from vla_data.files import write as jobs_io
from vla_data.files.sums import SEAL, format_sums, hash_file
from vla_data.jobs.job import provenance
from vla_data.jobs.workspace import workspace
from vla_data.selection.subset import Selection
from vla_data.verification.check import verify
from vla_data.verification.dataset import find_dataset
from vla_data.verification.provenance import open_provenance
from vla_data.verification.repair import repair
from vla_data.verification.report import Verdict

FORMATS = ("lerobot", "rlds", "plain_rollout")
FLIPS = int(os.environ.get("VLA_DATA_FLIPS", "100"))
LEROBOT_DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
SHARD = "ppo_sft_aligned-train.tfrecord-00000-of-00002"


@dataclass(frozen=True)
class Made:
    """A healthy dataset and what it was made from."""

    root: Path
    rollouts: Path

    @functools.cached_property
    def side(self) -> str:
        return find_dataset(self.root)[1]

    @functools.cached_property
    def sums(self) -> str:
        return (Path(self.side) / SEAL).as_posix()

    @property
    def files(self) -> list[str]:
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())

    def tree(self) -> dict[str, str]:
        return {name: hash_file(self.root / name) for name in self.files}


def make(kind: str, folder: Path) -> Made:
    images = ("arrays", "jpeg", "png")
    for i in range(6):
        data = rollout(9 + i, images=images[i % 3], instruction=("carrot", "spoon")[i % 2], seed=i)  # type: ignore[arg-type]
        save(folder / "rollouts", f"demo_{i}.npz", data)
    save(folder / "rollouts", "failed.npz", rollout(success=[False] * 5))
    source, target = vd.open_source(folder / "rollouts"), folder / "dataset"
    if kind == "rlds":
        target = folder / "data/ppo_sft_aligned/default/1.0.0"
        Definition({}).build(folder / "rollouts", target, workers=1, num_shards=2)
    elif kind == "lerobot":
        vd.run(source, vd.recipes.ppo_sft(), vd.open_sink(target, format="lerobot", images="png"), workers=1)
    else:
        vd.run(source, (), vd.open_sink(target, format=kind), workers=1)
    return Made(target, folder / "rollouts")


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    return functools.cache(lambda kind: make(kind, tmp_path_factory.mktemp(kind)))


@pytest.fixture
def fresh(originals: Callable[[str], Made], tmp_path: Path) -> Callable[[str], Made]:
    """A copy to damage."""

    def copy(kind: str) -> Made:
        made = originals(kind)
        folder = tmp_path / "copy" / "/".join(made.root.parts[-4:])
        shutil.copytree(made.root, folder)
        return Made(folder, made.rollouts)

    return copy


@contextmanager
def flipped(path: Path, at: int, bit: int) -> Iterator[None]:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))
        file.flush()
        try:
            yield
        finally:
            file.seek(at)
            file.write(bytes([byte]))


def blamed(verdict: Verdict) -> set[str]:
    return {damage.file for damage in verdict.damages}


def is_named(made: Made, name: str) -> bool:
    """Whether this file and no other is blamed."""
    return blamed(verify(made.root)) == {name}


def assert_found(made: Made, name: str, at: int, bit: int) -> None:
    with flipped(made.root / name, at, bit):
        assert is_named(made, name), (name, at, bit, blamed(verify(made.root)))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_healthy_dataset_is_healthy(originals: Callable[[str], Made], kind: str) -> None:
    made = originals(kind)
    for options in ({}, {"deep": True}, {"sample": 0.05}):
        verdict = verify(made.root, **options)  # type: ignore[arg-type]
        assert verdict.damages == ()
        assert verdict.ok
    verdict.require()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_flipped_bit_in_any_file_is_found_and_the_file_named(
    originals: Callable[[str], Made], kind: str
) -> None:
    made = originals(kind)
    for name in made.files:
        size = (made.root / name).stat().st_size
        for at in sorted({0, 1, size // 3, size // 2, size - 2, size - 1}):
            for bit in (0, 5, 7):
                assert_found(made, name, at, bit)


@pytest.mark.parametrize("kind", FORMATS)
def test_random_flips_are_found_and_the_files_named(originals: Callable[[str], Made], kind: str) -> None:
    made = originals(kind)
    sizes = {name: (made.root / name).stat().st_size for name in made.files}
    pick = random.Random(20261121)
    # Half by bytes, which are nearly all images, and half by files.
    for weights in (list(sizes.values()), [1] * len(sizes)):
        for name in pick.choices(list(sizes), weights, k=FLIPS // 2):
            assert_found(made, name, pick.randrange(sizes[name]), pick.randrange(8))


@pytest.mark.nightly
@pytest.mark.parametrize("kind", FORMATS)
def test_a_hundred_thousand_random_flips(originals: Callable[[str], Made], kind: str) -> None:
    made = originals(kind)
    sizes = {name: (made.root / name).stat().st_size for name in made.files}
    pick = random.Random(1)
    for name in pick.choices(list(sizes), k=33_334):
        assert_found(made, name, pick.randrange(sizes[name]), pick.randrange(8))


@pytest.mark.parametrize("kind", FORMATS)
def test_every_bit_of_the_sums_is_covered(originals: Callable[[str], Made], kind: str) -> None:
    made = originals(kind)
    size = (made.root / made.sums).stat().st_size
    for at in range(size):
        assert_found(made, made.sums, at, at % 8)


@pytest.mark.parametrize("kind", FORMATS)
def test_removed_cut_grown_and_emptied_files_are_named(fresh: Callable[[str], Made], kind: str) -> None:
    made = fresh(kind)
    for name in made.files:
        path = made.root / name
        data = path.read_bytes()
        for bad in (None, b"", data[:-1], data[: len(data) // 2], data + b"\n", data + data):
            if bad is None:
                path.unlink()
            else:
                path.write_bytes(bad)
            assert is_named(made, name), (name, bad is None or len(bad), blamed(verify(made.root)))
            path.write_bytes(data)
    assert verify(made.root).ok


def test_sizes_are_compared_before_contents(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    (made.root / "meta/stats.json").write_bytes(b"")
    (damage,) = verify(made.root, sample=0.01, seed=0).damages
    assert (damage.file, damage.problem[:13]) == ("meta/stats.json", "has 0 bytes, ")


def test_a_sample_says_what_was_not_checked_and_can_be_repeated(originals: Callable[[str], Made]) -> None:
    made = originals("plain_rollout")
    verdict = verify(made.root, sample=0.3, seed=7)
    # 7 rollouts, of which 3; manifest, ledger and schema always.
    assert (verdict.checked["files"], verdict.checked["hashed"], verdict.checked["seed"]) == (10, 6, 7)
    assert verdict.notes[0].startswith("4 of 10 files were checked by name")
    assert "--seed 7" in verdict.notes[0]
    assert verify(made.root, sample=0.3, seed=7).hashes == verdict.hashes
    assert any(verify(made.root, sample=0.3, seed=n).hashes != verdict.hashes for n in range(20))


def test_a_full_sample_finds_what_the_default_finds(originals: Callable[[str], Made]) -> None:
    made = originals("lerobot")
    with flipped(made.root / LEROBOT_DATA, 1000, 3):
        assert blamed(verify(made.root, sample=1.0)) == {LEROBOT_DATA}


@pytest.mark.parametrize("options", [{"sample": 0.0}, {"sample": 1.5}, {"sample": 0.5, "deep": True}])
def test_options_that_cannot_be_are_refused(originals: Callable[[str], Made], options: Any) -> None:
    with pytest.raises(UsageError) as refused:
        verify(originals("lerobot").root, **options)
    assert refused.value.code == "E001"


def test_swapped_files_are_both_named(fresh: Callable[[str], Made]) -> None:
    made = fresh("plain_rollout")
    one, two = made.root / "demo_1.npz", made.root / "demo_2.npz"
    one.rename(made.root / "x")
    two.rename(one)
    (made.root / "x").rename(two)
    found = verify(made.root).damages
    assert [damage.file for damage in found] == ["demo_1.npz", "demo_2.npz"]
    assert "it is that of demo_2.npz" in found[0].problem


def test_a_renamed_file_is_named_by_both_names(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    (made.root / LEROBOT_DATA).rename(made.root / "data/chunk-000/file-001.parquet")
    verdict = verify(made.root)
    assert {(d.file, d.kind) for d in verdict.damages} == {
        (LEROBOT_DATA, "missing"),
        ("data/chunk-000/file-001.parquet", "unexpected"),
    }


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("lerobot", "data/chunk-000/file-001.parquet"),
        ("lerobot", "meta/episodes/chunk-000/file-001.parquet"),
        ("rlds", "ppo_sft_aligned-train.tfrecord-00002-of-00003"),
        ("plain_rollout", "sub/more.npz"),
    ],
)
def test_a_file_more_where_readers_look_is_a_damage(fresh: Callable[[str], Made], kind: str, name: str) -> None:
    made = fresh(kind)
    (made.root / name).parent.mkdir(exist_ok=True)
    (made.root / name).write_bytes(b"x")
    assert [(d.file, d.kind) for d in verify(made.root).damages] == [(name, "unexpected")]


@pytest.mark.parametrize("name", ["notes.md", ".gitattributes", ".cache/huggingface/x.metadata", "meta/my.json"])
def test_other_files_are_noted_and_are_no_damage(fresh: Callable[[str], Made], name: str) -> None:
    made = fresh("lerobot")
    (made.root / name).parent.mkdir(parents=True, exist_ok=True)
    (made.root / name).write_bytes(b"x")
    verdict = verify(made.root)
    assert verdict.ok
    assert verdict.notes == (f"{name} is not in {SEAL}",)


def test_what_is_no_file_is_a_damage_and_is_not_waited_for(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    (made.root / LEROBOT_DATA).unlink()
    os.mkfifo(made.root / LEROBOT_DATA)
    (damage,) = verify(made.root).damages
    assert (damage.file, damage.problem) == (LEROBOT_DATA, "is not a regular file")


def test_links_are_read_as_sources_read_them(fresh: Callable[[str], Made], tmp_path: Path) -> None:
    """A link within the dataset is its file; one that leads out of it is refused by every source (E131)."""
    made = fresh("lerobot")
    (made.root / LEROBOT_DATA).rename(made.root / "blob")
    (made.root / LEROBOT_DATA).symlink_to(made.root / "blob")
    assert verify(made.root).ok
    assert len(vd.open_source(made.root).episodes()) == 6
    (made.root / "blob").rename(tmp_path / "blob")
    (made.root / LEROBOT_DATA).unlink()
    (made.root / LEROBOT_DATA).symlink_to(tmp_path / "blob")
    (damage,) = verify(made.root).damages
    assert (damage.file, damage.problem) == (
        LEROBOT_DATA,
        "is a link that leads out of the dataset; it is not read",
    )
    assert repair(made.root, made.rollouts, workers=1).after.ok
    assert (tmp_path / "blob").is_file()


def test_a_path_that_is_not_there_is_said_to_be_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone is not there") as error:
        verify(tmp_path / "gone")
    assert error.value.code == "E003"


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside", "./meta/info.json"])
def test_sums_that_lead_outside_are_a_damage(fresh: Callable[[str], Made], name: str) -> None:
    made = fresh("lerobot")
    with (made.root / made.sums).open("a") as file:
        file.write(f"{'0' * 64}  {name}\n")
    found = verify(made.root)
    assert blamed(found) == {made.sums}
    assert not any(name in known for known in found.hashes)


def test_lines_in_another_order_or_twice_are_a_damage(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    path = made.root / made.sums
    lines = path.read_bytes().splitlines(keepends=True)
    for bad in ([*lines[1:], lines[0]], [*lines, lines[0]], [line.replace(b"\n", b"\r\n") for line in lines]):
        path.write_bytes(b"".join(bad))
        assert made.sums in blamed(verify(made.root))


def test_a_dataset_is_found_from_its_data_dir(originals: Callable[[str], Made]) -> None:
    made = originals("rlds")
    assert verify(made.root.parents[2]).root == made.root


@pytest.mark.parametrize("lost", ["ledger.parquet", "manifest.json", "schema.json", SEAL])
def test_a_dataset_is_found_by_what_is_left_of_its_sidecar(fresh: Callable[[str], Made], lost: str) -> None:
    made = fresh("rlds")
    (made.root / "vla_data" / lost).unlink()
    assert f"vla_data/{lost}" in blamed(verify(made.root.parents[2]))


def test_a_folder_of_somebody_else_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(UsageError) as refused:
        verify(tmp_path)
    assert refused.value.code == "E003"


def test_a_sealed_folder_of_rollouts_can_be_verified(tmp_path: Path) -> None:
    from vla_data.files.sums import write_seal

    path = save(tmp_path, "a.npz", rollout())
    write_seal(tmp_path, ["a.npz"])
    assert verify(tmp_path).ok
    with flipped(path, 100, 0):
        assert blamed(verify(tmp_path)) == {"a.npz"}


# What was changed and summed up anew


def rewrite_json(path: Path, change: Callable[[Any], Any]) -> None:
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value))


def rewrite_table(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    table = pq.read_table(path)
    pq.write_table(change(table).cast(table.schema), path, write_page_checksum=True)


def replaced(table: pa.Table, name: str, values: Any) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))


def sum_up(made: Made) -> None:
    """Make sums and sizes fit again, as a careful liar would."""
    side = made.root / made.side
    names = [name for name in made.files if name != made.sums]
    own = (Path(made.side) / "manifest.json").as_posix()
    sizes = {name: (made.root / name).stat().st_size for name in names if name != own}
    rewrite_json(side / "manifest.json", lambda manifest: manifest.update(files=sizes))
    (made.root / made.sums).write_bytes(format_sums({name: hash_file(made.root / name) for name in names}))


def set_value(*keys: Any, to: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        for key in keys[:-1]:
            value = value[key]
        value[keys[-1]] = to

    return change


def order(table: pa.Table, *positions: int) -> pa.Table:
    """The table with its first rows in another order."""
    return table.take([*positions, *range(len(positions), len(table))])


def swapped_values(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: replaced(table, name, order(table, 1, 0)[name].to_pylist())


LEROBOT_LIES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "mean of actions": (
        "meta/stats.json",
        lambda p: rewrite_json(p, set_value("action", "mean", 0, to=0.5)),
    ),
    "quantile of images": (
        "meta/stats.json",
        lambda p: rewrite_json(p, set_value("observation.images.primary", "q50", 1, to=[[0.9]])),
    ),
    "a feature without statistics": ("meta/stats.json", lambda p: rewrite_json(p, lambda v: v.pop("action"))),
    "frames in all": ("meta/info.json", lambda p: rewrite_json(p, set_value("total_frames", to=47))),
    "rate": ("meta/info.json", lambda p: rewrite_json(p, set_value("fps", to=10))),
    "shape": (
        "meta/info.json",
        lambda p: rewrite_json(p, set_value("features", "action", "shape", to=[8])),
    ),
    "length of an episode": (
        EPISODES,
        lambda p: rewrite_table(p, lambda t: replaced(t, "length", [9, *t["length"].to_pylist()[1:]])),
    ),
    "statistics of an episode": (EPISODES, lambda p: rewrite_table(p, swapped_values("stats/action/mean"))),
    "name of an episode": (EPISODES, lambda p: rewrite_table(p, swapped_values("vla_data/source"))),
    "task of an episode": (EPISODES, lambda p: rewrite_table(p, swapped_values("tasks"))),
    "an episode without a row": (EPISODES, lambda p: rewrite_table(p, lambda t: t.slice(0, len(t) - 1))),
    "tasks": ("meta/tasks.parquet", lambda p: rewrite_table(p, swapped_values("task"))),
    "a task more": (
        "meta/tasks.parquet",
        lambda p: rewrite_table(
            p,
            lambda t: pa.concat_tables([t, pa.table({"task_index": [len(t)], "task": ["x"]}).cast(t.schema)]),
        ),
    ),
    "rows": (LEROBOT_DATA, lambda p: rewrite_table(p, lambda t: order(t, 1, 0))),
    "actions of two rows": (LEROBOT_DATA, lambda p: rewrite_table(p, swapped_values("action"))),
    "images of two rows": (
        LEROBOT_DATA,
        lambda p: rewrite_table(p, swapped_values("observation.images.primary")),
    ),
    "timestamps": (LEROBOT_DATA, lambda p: rewrite_table(p, swapped_values("timestamp"))),
    "a row less": (LEROBOT_DATA, lambda p: rewrite_table(p, lambda t: t.slice(0, len(t) - 1))),
    "a row twice": (
        LEROBOT_DATA,
        lambda p: rewrite_table(p, lambda t: pa.concat_tables([t, t.slice(len(t) - 1)])),
    ),
}


@pytest.mark.parametrize("lie", LEROBOT_LIES)
def test_deep_finds_a_lerobot_dataset_that_contradicts_itself(fresh: Callable[[str], Made], lie: str) -> None:
    made = fresh("lerobot")
    name, change = LEROBOT_LIES[lie]
    change(made.root / name)
    sum_up(made)
    assert verify(made.root).ok
    verdict = verify(made.root, deep=True)
    assert name in blamed(verdict)
    if name in (EPISODES, LEROBOT_DATA):
        assert any(damage.episodes for damage in verdict.damages if damage.file == name)


def test_deep_names_the_episodes_that_suffer(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    rewrite_table(made.root / LEROBOT_DATA, swapped_values("action"))
    sum_up(made)
    (damage,) = verify(made.root, deep=True).damages
    assert damage.line() == f"{LEROBOT_DATA}: the content is not that of the ledger's digest (demo_0.npz)"


def test_deep_finds_an_image_that_cannot_be_decoded(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")

    def spoil(table: pa.Table) -> pa.Table:
        column = table["observation.images.primary"].to_pylist()
        column[3]["bytes"] = column[3]["bytes"][:-40]
        return replaced(table, "observation.images.primary", column)

    rewrite_table(made.root / LEROBOT_DATA, spoil)
    sum_up(made)
    assert any("PNG image is cut" in damage.problem for damage in verify(made.root, deep=True).damages)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "change",
    [
        set_value("counts", "kept", to=1),
        set_value("content_sha256", to="0" * 64),
        set_value("sources_sha256", to="0" * 64),
        set_value("provenance", "recipe", to=[]),
        set_value("versions", "numpy", to="1.0"),
        set_value("reasons", to={}),
    ],
)
def test_deep_finds_a_manifest_that_contradicts_the_ledger(
    fresh: Callable[[str], Made], kind: str, change: Callable[[Any], None]
) -> None:
    made = fresh(kind)
    manifest = made.root / made.side / "manifest.json"
    if json.loads(manifest.read_bytes())["provenance"]["recipe"] == []:
        change = set_value("provenance", "sink", to={"type": "X"})
    rewrite_json(manifest, change)
    sum_up(made)
    assert verify(made.root).ok
    assert blamed(verify(made.root, deep=True)) == {(Path(made.side) / "manifest.json").as_posix()}


@pytest.mark.parametrize("kind", FORMATS)
def test_deep_finds_a_ledger_with_another_content(fresh: Callable[[str], Made], kind: str) -> None:
    from dataclasses import replace

    made = fresh(kind)
    path = made.root / made.side / "ledger.parquet"
    first, *rest = Ledger.read(path).records
    for bad in (
        replace(first, content_sha256="0" * 64),
        replace(first, spans=first.spans[:-1]),
        replace(first, length=99),
        replace(first, output_index=5),
    ):
        Ledger((bad, *rest)).write(path)
        sum_up(made)
        assert not verify(made.root, deep=True).ok


def records(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return list(tfrecord.records(file, name="f"))


def write_records(path: Path, items: list[bytes]) -> None:
    path.write_bytes(b"".join(piece for item in items for piece in tfrecord.frame([item])))


def altered(item: bytes, name: str, change: Callable[[Any], Any]) -> bytes:
    features = rlds_check.parse_example(item)
    features[name] = change(features[name])
    return b"".join(tfrecord.example(features))


def alter(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def lie(path: Path) -> None:
        first, *rest = records(path)
        write_records(path, [altered(first, name, change), *rest])

    return lie


TFDS_LIES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "order of records": (".", lambda p: write_records(p, records(p)[::-1])),
    "a record less": (".", lambda p: write_records(p, records(p)[:-1])),
    "a record twice": (SHARD, lambda p: write_records(p, [*records(p), records(p)[-1]])),
    "action": (SHARD, alter("steps/action", lambda a: np.roll(a, 7))),
    "images": (SHARD, alter("steps/observation/image", lambda images: images[::-1])),
    "a broken image": (SHARD, alter("steps/observation/image", lambda images: [images[0][:-9], *images[1:]])),
    "text": (SHARD, alter("steps/language_instruction", lambda texts: [b"x"] * len(texts))),
    "number of texts": (SHARD, alter("steps/language_instruction", lambda texts: texts[:-1])),
    "name": (SHARD, alter("episode_metadata/file_path", lambda _: [b"demo_9.npz"])),
    "source length": (SHARD, alter("episode_metadata/original_length", lambda n: n + 1)),
    "length": (SHARD, alter("episode_metadata/filtered_length", lambda n: n - 1)),
}


@pytest.mark.parametrize("lie", TFDS_LIES)
def test_deep_finds_a_tfds_dataset_that_contradicts_itself(fresh: Callable[[str], Made], lie: str) -> None:
    made = fresh("rlds")
    name, change = TFDS_LIES[lie]
    change(made.root / SHARD)
    sum_up(made)
    assert verify(made.root).ok
    assert name in blamed(verify(made.root, deep=True))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("dataset_info.json", set_value("splits", 0, "shardLengths", to=["1", "1"])),
        ("dataset_info.json", set_value("splits", 0, "numBytes", to="1")),
        ("dataset_info.json", set_value("splits", to=[])),
        ("dataset_info.json", set_value("version", to="2.0.0")),
        ("features.json", lambda value: value.clear()),
    ],
)
def test_deep_finds_metadata_of_tfds_that_is_not_of_the_records(
    fresh: Callable[[str], Made], file: str, change: Callable[[Any], None]
) -> None:
    made = fresh("rlds")
    rewrite_json(made.root / file, change)
    sum_up(made)
    assert file in blamed(verify(made.root, deep=True)) or file == "features.json"
    assert not verify(made.root, deep=True).ok


def test_deep_finds_declared_sizes_that_are_not_those_of_the_images(fresh: Callable[[str], Made]) -> None:
    made = fresh("rlds")
    path = made.root / "features.json"
    path.write_text(path.read_text().replace('"24"', '"48"'))
    sum_up(made)
    assert any("images of" in damage.problem for damage in verify(made.root, deep=True).damages)


def test_deep_finds_sanitized_rollouts_under_each_others_names(fresh: Callable[[str], Made]) -> None:
    made = fresh("plain_rollout")
    (made.root / "demo_1.npz").rename(made.root / "x")
    (made.root / "demo_2.npz").rename(made.root / "demo_1.npz")
    (made.root / "x").rename(made.root / "demo_2.npz")
    sum_up(made)
    assert verify(made.root).ok
    assert {"demo_1.npz", "demo_2.npz"} <= blamed(verify(made.root, deep=True))


@pytest.mark.parametrize("kind", FORMATS)
def test_deep_survives_any_file_that_is_nonsense(fresh: Callable[[str], Made], kind: str) -> None:
    made = fresh(kind)
    for name in made.files:
        data = (made.root / name).read_bytes()
        for bad in (b"", b"{}", b"[1]", b"PAR1" + data[4:], data[: len(data) // 2]):
            (made.root / name).write_bytes(bad)
            if bad != data:
                assert name in blamed(verify(made.root, deep=True)), (name, bad[:4])
        (made.root / name).write_bytes(data)


def test_deep_reads_videos(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from vla_data.media.video_settings import VideoSettings

    for i in range(2):
        save(tmp_path / "r", f"{i}.npz", rollout(9, size=(64, 64), seed=i))
    target = tmp_path / "out"
    sink = vd.open_sink(target, format="lerobot", video=VideoSettings(codec="h264"))
    vd.run(vd.open_source(tmp_path / "r"), vd.recipes.ppo_sft(), sink, workers=1)
    verdict = verify(target, deep=True)
    assert verdict.damages == ()
    (video,) = target.rglob("*.mp4")
    frames = verdict.checked["frames"]
    from vla_data.media.video import encode

    video.write_bytes(encode((np.zeros((64, 64, 3), np.uint8),) * (frames - 1), VideoSettings(), fps=5))
    sum_up(Made(target, tmp_path / "r"))
    assert not verify(target, deep=True).ok


@pytest.mark.parametrize(
    "features",
    [
        {"a": [b"x", b""], "b": np.array([1.5, -2], np.float32), "c": np.array([-1, 0, 2**62], np.int64)},
        {},
        {"empty": [], "none": np.zeros(0, np.float32)},
    ],
)
def test_examples_are_read_as_they_were_written(features: dict[str, Any]) -> None:
    found = rlds_check.parse_example(b"".join(tfrecord.example(features)))
    assert {k: list(v) for k, v in found.items()} == {k: list(v) for k, v in features.items()}


def test_an_example_that_is_cut_or_flipped_is_refused_or_another(originals: Callable[[str], Made]) -> None:
    item = records(originals("rlds").root / SHARD)[0]
    pick = random.Random(3)
    for _ in range(300):
        at = pick.randrange(len(item))
        for bad in (item[:at], item[:at] + bytes([item[at] ^ 1 << pick.randrange(8)]) + item[at + 1 :]):
            try:
                rlds_check.parse_example(bad)
            except (ValueError, KeyError, IndexError):
                continue


# Repair


def spoil(made: Made) -> None:
    """A little of everything, but not the manifest, without which nothing is known."""
    own = {made.sums, (Path(made.side) / "manifest.json").as_posix()}
    names = [name for name in made.files if name not in own]
    (made.root / names[0]).unlink()
    (made.root / names[1]).write_bytes(b"")
    (made.root / names[2]).rename(made.root / "elsewhere.npz")
    for name in names[3:]:
        data = bytearray((made.root / name).read_bytes())
        data[len(data) // 2] ^= 4
        (made.root / name).write_bytes(data)


@pytest.mark.parametrize("kind", FORMATS)
def test_repair_gives_the_bytes_back(fresh: Callable[[str], Made], kind: str) -> None:
    made = fresh(kind)
    before = made.tree()
    spoil(made)
    done = repair(made.root, made.rollouts, workers=1)
    assert made.tree() == before
    assert done.after.ok
    assert done.removed == ("elsewhere.npz",)
    assert list(made.root.parent.iterdir()) == [made.root]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("how", ["removed", "emptied", "flipped"])
def test_repair_gives_the_sums_back(fresh: Callable[[str], Made], kind: str, how: str) -> None:
    made = fresh(kind)
    before = made.tree()
    path = made.root / made.sums
    if how == "removed":
        path.unlink()
    elif how == "emptied":
        path.write_bytes(b"")
    else:
        path.write_bytes(path.read_bytes().replace(b"manifest", b"manifesu"))
    repair(made.root, made.rollouts, workers=1)
    assert made.tree() == before


@pytest.mark.parametrize("kind", ["lerobot", "rlds"])
def test_a_converted_selection_is_verified_and_repaired(
    originals: Callable[[str], Made], tmp_path: Path, kind: str
) -> None:
    source = originals("lerobot").root
    reader = Selection(vd.open_source(source), (0, 2, 3))
    options = {"name": "picked", "step_fields": "rlds"} if kind == "rlds" else {"images": "jpeg"}
    vd.run(reader, (), vd.open_sink(tmp_path / "out", format=kind, **options), workers=1)
    made = Made(tmp_path / "out", source)
    assert verify(made.root, deep=True).damages == ()
    before = made.tree()
    spoil(made)
    repair(made.root, source, workers=1)
    assert made.tree() == before


def test_repair_writes_what_is_damaged_and_nothing_else(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    (made.root / "meta/stats.json").write_bytes(b"{}")
    (made.root / "notes.txt").write_text("mine")
    times = {name: (made.root / name).stat().st_mtime_ns for name in made.files}
    assert repair(made.root, made.rollouts, workers=1).replaced == ("meta/stats.json",)
    changed = {name for name in made.files if (made.root / name).stat().st_mtime_ns != times[name]}
    assert changed == {"meta/stats.json"}


def test_nothing_damaged_is_nothing_done(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    done = repair(made.root)
    assert (done.replaced, done.removed, done.after.ok) == ((), (), True)


def test_renamed_files_need_no_source(fresh: Callable[[str], Made]) -> None:
    made = fresh("rlds")
    before = made.tree()
    (made.root / SHARD).rename(made.root / "x.tfrecord")
    repair(made.root)
    assert made.tree() == before


RENAMED: dict[str, dict[str, str]] = {
    "to a name that no reader takes for data": {"meta/info.json": "meta/info_renamed.json"},
    "a document": {"README.md": "README.old"},
    "both": {"meta/info.json": "info.json", "README.md": "meta/README.md"},
}
SWAPPED: dict[str, dict[str, str]] = {
    "two": {"meta/info.json": "meta/stats.json", "meta/stats.json": "meta/info.json"},
    "three in a ring": {
        "meta/info.json": "meta/stats.json",
        "meta/stats.json": "README.md",
        "README.md": "meta/info.json",
    },
    "over another, which is gone": {"meta/info.json": "meta/stats.json"},
}


def rename(made: Made, names: dict[str, str]) -> None:
    for name in names:
        (made.root / name).rename(made.root / f"{name}.moving")
    for name, other in names.items():
        (made.root / f"{name}.moving").rename(made.root / other)


@pytest.mark.parametrize("how", RENAMED)
def test_names_are_given_back_without_a_source(fresh: Callable[[str], Made], how: str) -> None:
    made = fresh("lerobot")
    before = made.tree()
    rename(made, RENAMED[how])
    assert not verify(made.root).ok
    done = repair(made.root)
    assert (done.replaced, done.after.ok) == ((), True)
    assert made.tree() == before


@pytest.mark.parametrize("how", SWAPPED)
def test_swapped_names_need_the_source(fresh: Callable[[str], Made], how: str) -> None:
    made = fresh("lerobot")
    before = made.tree()
    rename(made, SWAPPED[how])
    assert "meta/info.json" in refused(made, "E001", UsageError, ())
    assert repair(made.root, made.rollouts, workers=1).after.ok
    assert made.tree() == before


@pytest.mark.parametrize("at", [0, 1])
def test_an_interrupted_renaming_goes_on(
    fresh: Callable[[str], Made], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    made = fresh("lerobot")
    before = made.tree()
    rename(made, RENAMED["both"])
    count = iter(range(100))

    def fail(name: str, path: Path) -> None:
        if name == "rename" and path.is_relative_to(made.root) and next(count) == at:
            raise KeyboardInterrupt

    monkeypatch.setattr("vla_data.files.write.hook", fail)
    with pytest.raises(KeyboardInterrupt):
        repair(made.root)
    monkeypatch.setattr("vla_data.files.write.hook", None)
    assert repair(made.root).after.ok
    assert made.tree() == before


def test_a_copy_of_a_file_that_was_edited_stays_where_it_is(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    shutil.copy(made.root / "README.md", made.root / "mine.md")
    (made.root / "README.md").write_text("edited")
    repair(made.root, made.rollouts, workers=1)
    assert verify(made.root).ok
    assert (made.root / "mine.md").is_file()


@pytest.mark.parametrize("what", ["folder", "file", "link to a folder"])
def test_what_stands_in_the_way_is_moved_aside(fresh: Callable[[str], Made], tmp_path: Path, what: str) -> None:
    made = fresh("lerobot")
    before = made.tree()
    name = LEROBOT_DATA if what == "folder" else "data"
    (made.root / name).rename(tmp_path / "old")
    if what == "folder":
        (made.root / name).mkdir()
        (made.root / name / "mine.txt").write_text("mine")
    elif what == "file":
        (made.root / name).write_text("mine")
    else:
        (made.root / name).symlink_to(tmp_path / "old")
    done = repair(made.root, made.rollouts, workers=1)
    assert done.after.ok, done.after.damages
    assert done.aside == ((name, f"{name}.aside"),)
    assert {name: digest for name, digest in made.tree().items() if ".aside" not in name} == before
    mine = {"folder": f"{name}.aside/mine.txt", "file": "data.aside"}
    assert what not in mine or (made.root / mine[what]).read_text() == "mine"
    assert (tmp_path / "old").exists()


def flip_in_sums(made: Made, at: int | str) -> None:
    data = bytearray((made.root / made.sums).read_bytes())
    data[data.index(b"\n") if at == "line" else int(at)] ^= 1
    (made.root / made.sums).write_bytes(data)


@pytest.mark.parametrize("at", [64, 65, 66, 70, -1, "line"])
def test_sums_with_every_digest_need_no_source(fresh: Callable[[str], Made], at: int | str) -> None:
    made = fresh("lerobot")
    before = made.tree()
    flip_in_sums(made, at)
    assert repair(made.root).replaced == (made.sums,)
    assert made.tree() == before


def test_a_damaged_digest_needs_the_source(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    before = made.tree()
    flip_in_sums(made, 3)
    assert made.sums in refused(made, "E001", UsageError, ())
    assert repair(made.root, made.rollouts, workers=1).replaced == (made.sums,)
    assert made.tree() == before


def test_a_copy_of_ours_is_removed_and_a_stranger_stays(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    shutil.copy(made.root / LEROBOT_DATA, made.root / "data/chunk-000/file-001.parquet")
    (made.root / "data/chunk-000/file-002.parquet").write_bytes(b"mine")
    done = repair(made.root)
    assert done.removed == ("data/chunk-000/file-001.parquet",)
    assert blamed(done.after) == {"data/chunk-000/file-002.parquet"}


def refused(made: Made, code: str, error: type[Exception], source: Path | tuple[()]) -> str:
    before = made.tree()
    with pytest.raises(error) as problem:
        repair(made.root, source, workers=1)
    assert made.tree() == before
    assert problem.value.code == code  # type: ignore[attr-defined]
    return str(problem.value)


def test_repair_says_when_it_needs_the_source(
    fresh: Callable[[str], Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    made = fresh("lerobot")
    vd.run(vd.open_source(made.rollouts), (), vd.open_sink(tmp_path / "new", format="lerobot"), workers=1)
    (made.root / "meta/stats.json").unlink()
    said = refused(made, "E001", UsageError, ())
    assert "meta/stats.json" in said
    assert f"vla-data repair {made.root} SOURCE" in said
    assert not state.exists()  # nor does a job note where its sources lie


@pytest.mark.parametrize("how", ["changed", "removed", "added"])
def test_repair_refuses_other_sources(fresh: Callable[[str], Made], tmp_path: Path, how: str) -> None:
    made = fresh("lerobot")
    (made.root / "meta/stats.json").unlink()
    other = shutil.copytree(made.rollouts, tmp_path / "other")
    if how == "removed":
        (other / "failed.npz").unlink()
    else:
        save(other, "failed.npz" if how == "changed" else "more.npz", rollout(seed=9))
    assert ("more.npz" if how == "added" else "failed.npz") in refused(made, "E412", TargetExistsError, other)


def test_repair_refuses_other_versions(fresh: Callable[[str], Made], monkeypatch: pytest.MonkeyPatch) -> None:
    made = fresh("lerobot")
    (made.root / "meta/stats.json").unlink()
    real = vd.jobs.job.versions(vd.open_sink("x"))  # type: ignore[attr-defined]
    monkeypatch.setattr("vla_data.verification.repair.versions", lambda sink: {**real, "simplejpeg": "9.9"})
    assert "simplejpeg" in refused(made, "E412", TargetExistsError, made.rollouts)


@pytest.mark.parametrize(
    "sink",
    [
        "__import__('os').system('touch hacked')",
        "LerobotSink(images=print('x'))",
        "LerobotSink(images=open('hacked', 'w'))",
        "LerobotSink(**{'images': 'png'})",
        "LerobotSink(target='/tmp/x')",
        "Path('x')",
        "LerobotSink(images='png', images='png')",
        "(" * 5000,
        "lambda: 0",
        7,
        None,
        {"type": "os.system"},
        {"type": ["LerobotSink"]},
        {"type": "LerobotSink", "target": "/tmp/x"},
        {"type": "LerobotSink", "images": {"type": "open", "file": "hacked"}},
        {"type": "LerobotSink", "images": {"type": "Path", "path": "hacked"}},
        {"type": "LerobotSink", "nothing": 1},
        {"type": "RldsSink", "name": {"type": "PpoRolloutSource"}},
        [],
    ],
)
def test_a_recipe_is_never_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sink: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r").mkdir()
    save(tmp_path / "r", "a.npz", rollout())
    source = vd.open_source(tmp_path / "r")
    old = {"format_version": 1, "recipe_digest": "", "recipe": {"source": repr(source), "steps": [], "sink": sink}}
    new = {"provenance": {"source": to_json(source), "recipe": [], "sink": sink}}
    for manifest in (upgraded(old), new):
        with pytest.raises(VerifyError) as problem:
            open_provenance(manifest, [tmp_path / "r"], tmp_path / "out")
        assert problem.value.code == "E601"
    assert not (tmp_path / "hacked").exists()


def test_every_recipe_of_ours_can_be_repeated(tmp_path: Path) -> None:
    from vla_data.media.video_settings import VideoSettings

    source = vd.open_source(
        f"ppo_rollout:{tmp_path}", image_size=(24, 32), allow_images=["rgba", "gray"], max_episodes=3
    )
    steps = (
        *vd.recipes.ppo_sft(gripper_hysteresis=(-0.5, 0.5), rot_thresh=None, success_rule="cumulative"),
        *vd.recipes.ppo_sft(compat="rl4vla"),
    )
    pytest.importorskip("av")
    for sink in (
        vd.open_sink(tmp_path / "x", format="lerobot", video=VideoSettings(crf=20), robot="a 'b' \\ c"),
        vd.open_sink(tmp_path / "x", format="rlds", name="d", num_shards=3),
        vd.open_sink(tmp_path / "x", format="plain_rollout"),
    ):
        facts = {"provenance": json.loads(json.dumps(provenance(source, steps, sink)))}
        assert open_provenance(facts, [tmp_path], tmp_path / "x") == (source, steps, sink)
        recipe = {"source": repr(source), "steps": list(map(repr, steps)), "sink": repr(sink)}  # of version 1
        old = upgraded({"format_version": 1, "recipe_digest": "", "recipe": recipe})
        assert is_made_by(old, facts["provenance"])


def test_repair_refuses_a_manifest_with_a_damaged_recipe(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    path = made.root / "meta/vla_data/manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"min_steps": 6', b'"min_steps": 4'))
    assert "--replace" in refused(made, "E601", VerifyError, made.rollouts)


def test_repair_gives_back_a_manifest_whose_recipe_is_whole(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    before = made.tree()
    path = made.root / "meta/vla_data/manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"kept": ', b'"kept": 1'))
    repair(made.root, made.rollouts, workers=1)
    assert made.tree() == before


def test_repair_leaves_a_dataset_alone_that_somebody_changed_on_purpose(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    rewrite_json(made.root / "meta/stats.json", set_value("action", "mean", 0, to=0.5))
    sum_up(made)
    (made.root / LEROBOT_DATA).unlink()
    assert "meta/stats.json" in refused(made, "E601", VerifyError, made.rollouts)


def test_an_interrupted_repair_goes_on(fresh: Callable[[str], Made], monkeypatch: pytest.MonkeyPatch) -> None:
    made = fresh("lerobot")
    before = made.tree()
    spoil(made)
    bad = len(verify(made.root).damages)

    def fail(name: str, path: Path) -> None:
        if name == "rename" and path.is_relative_to(made.root) and path.name == "info.json":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(jobs_io, "hook", fail)
    with pytest.raises(MachineError):
        repair(made.root, made.rollouts, workers=1)
    monkeypatch.setattr(jobs_io, "hook", None)
    assert 0 < len(verify(made.root).damages) < bad
    repair(made.root, made.rollouts, workers=1)
    assert made.tree() == before
    assert list(made.root.parent.iterdir()) == [made.root]


def test_only_one_repairs(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    (made.root / "meta/stats.json").unlink()
    with workspace(made.root.resolve()), pytest.raises(LockedError):
        repair(made.root, made.rollouts)


# The command line


def test_the_commands_name_files_and_leave_with_their_codes(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    before = made.tree()
    shell = CliRunner()
    assert shell.invoke(verify_command, [str(made.root)]).exit_code == 0
    assert shell.invoke(verify_command, [str(made.root), "--sample", "5%", "--seed", "1"]).exit_code == 0
    (made.root / "meta/stats.json").write_bytes(b"{}")
    done = shell.invoke(verify_command, [str(made.root), "--deep"])
    assert done.exit_code == 6
    assert "vla-data: E601 verify: meta/stats.json: " in done.stderr
    done = shell.invoke(verify_command, [str(made.root), "--json"])
    assert done.exit_code == 6
    assert [damage["file"] for damage in json.loads(done.stdout)["damages"]] == ["meta/stats.json"]
    done = shell.invoke(repair_command, [str(made.root), str(made.rollouts)])
    assert (done.exit_code, made.tree()) == (0, before)
    assert "rebuilt: meta/stats.json" in done.stdout
    done = shell.invoke(repair_command, [str(made.root)])
    assert (done.exit_code, "nothing is damaged" in done.stdout) == (0, True)


@pytest.mark.parametrize("share", ["0%", "0", "101%", "1.1", "x", "nan", "-5%", "%"])
def test_a_share_that_is_none_is_refused(fresh: Callable[[str], Made], share: str) -> None:
    done = CliRunner().invoke(verify_command, [str(fresh("lerobot").root), "--sample", share])
    assert done.exit_code == 2


def test_names_are_shown_without_steering_the_terminal(fresh: Callable[[str], Made]) -> None:
    made = fresh("lerobot")
    (made.root / "data/\x1b[2J.parquet").write_bytes(b"")
    done = CliRunner().invoke(verify_command, [str(made.root)])
    assert "data/\\x1b[2J.parquet: is not in SHA256SUMS" in done.stderr
    assert "\x1b" not in done.output


def test_the_sums_are_those_of_sha256sum(originals: Callable[[str], Made]) -> None:
    made = originals("lerobot")
    for line in io.StringIO((made.root / made.sums).read_text()):
        digest, name = line.rstrip("\n").split("  ")
        assert hashlib.sha256((made.root / name).read_bytes()).hexdigest() == digest
