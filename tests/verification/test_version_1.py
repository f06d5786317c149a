"""Datasets of version 0.1, whose manifests say in ``repr``s how they were made, work as they did."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import vla_data as vd
from builders.ppo_sft_aligned.definition import Definition
from tests.hdf5_files import LIBERO
from tests.paths import TESTS
from vla_data.advantages.job import annotate
from vla_data.cli import cli
from vla_data.core.manifest import read_manifest
from vla_data.core.manifest_v1 import provenance_of
from vla_data.errors import DataError, TargetExistsError, UsageError, VerifyError
from vla_data.files.sums import hash_file
from vla_data.files.write import files_below
from vla_data.jobs.job import versions
from vla_data.selection.exports import write_keep_ranges
from vla_data.verification.check import verify
from vla_data.verification.dataset import find_dataset
from vla_data.verification.provenance import open_provenance
from vla_data.verification.repair import repair

TFDS = "tfds/ppo_sft_aligned/pe78b6329f9/1.0.0"
SOURCES = {
    **dict.fromkeys(("lerobot", "video", "rlds", "robomimic", "plain_rollout", TFDS), ("rollouts",)),
    "merged": ("rollouts", "rollouts"),
    "rdt": (LIBERO,),
}
"""Dataset -> what it was made from."""


@pytest.fixture
def v01(tmp_path: Path) -> Path:
    with tarfile.open(TESTS / "data/v01/v01.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def sources(v01: Path, name: str) -> list[Path]:
    return [v01 / where for where in SOURCES[name]]


def manifest(root: Path) -> dict[str, Any]:
    found, side = find_dataset(root)
    return dict(json.loads((found / side / "manifest.json").read_bytes()))


def tree(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): hash_file(path) for path in files_below(root)}


def run(*args: object) -> str:
    done = CliRunner().invoke(cli, [str(arg) for arg in args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", SOURCES)
def test_it_verifies_to_the_last_frame_and_beside_its_source(v01: Path, name: str) -> None:
    assert manifest(v01 / name)["format_version"] == 1
    against = [word for source in sources(v01, name) for word in ("--against", source)]
    assert re.search(r"Damages +0\b", run("verify", v01 / name, "--deep", *against))


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "rdt"])
def test_its_largest_file_is_restored_to_the_byte(v01: Path, name: str) -> None:
    before = tree(v01 / name)
    max(files_below(v01 / name), key=lambda path: path.stat().st_size).unlink()
    assert_restored(v01, name, before)


def test_one_of_hdf5_files_is_left_as_it_is_and_the_line_says_why(v01: Path) -> None:
    """More is read of HDF5 files now than version 0.1 did, and the ledger has it: it would not be the same."""
    max(files_below(v01 / "rdt"), key=lambda path: path.stat().st_size).unlink()
    before = tree(v01 / "rdt")
    with pytest.raises((VerifyError, TargetExistsError)) as refused:
        repair(v01 / "rdt", sources(v01, "rdt"), workers=1)
    assert refused.value.code in ("E412", "E601")
    assert tree(v01 / "rdt") == before


def test_its_manifest_is_restored_to_the_byte_where_its_recipe_is_whole(v01: Path) -> None:
    before = tree(v01 / "merged")
    path = v01 / "merged/meta/vla_data/manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"kept": ', b'"kept": 1'))
    assert_restored(v01, "merged", before)


def assert_restored(v01: Path, name: str, before: dict[str, str]) -> None:
    found, side = find_dataset(v01 / name)
    made = read_manifest(found / side)
    _, _, sink = open_provenance(made, sources(v01, name), v01 / "again")
    if made["versions"] == versions(sink):
        assert repair(v01 / name, sources(v01, name), workers=1).after.ok
        assert tree(v01 / name) == before
    else:  # other versions of what encodes may give other bytes, and that is said
        with pytest.raises(TargetExistsError) as refused:
            repair(v01 / name, sources(v01, name), workers=1)
        assert refused.value.code == "E412"


def test_a_changed_recipe_is_found_and_never_repeated(v01: Path) -> None:
    path = v01 / "lerobot/meta/vla_data/manifest.json"
    path.write_bytes(path.read_bytes().replace(b"min_steps=6", b"min_steps=4"))
    with pytest.raises(VerifyError) as refused:
        repair(v01 / "lerobot", v01 / "rollouts")
    assert refused.value.code == "E601"
    sums = path.with_name("SHA256SUMS")
    sums.write_text(sums.read_text().replace(sums.read_text().splitlines()[-2][:64], hash_file(path)))
    assert any("recipe" in damage.problem for damage in verify(v01 / "lerobot", deep=True).damages)


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - {"plain_rollout"}))
def test_its_ledger_answers(v01: Path, name: str) -> None:
    assert "episode 0" in run("why", v01 / name, "0", 0)
    if sources(v01, name) == [v01 / "rollouts"]:
        assert "rejected (no_success" in run("why", v01 / name, "episode_000002")


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - {"rdt", "plain_rollout", TFDS}))
def test_it_says_how_it_was_made(v01: Path, name: str) -> None:
    text = " ".join(run("inspect", f"hdf5:{v01 / name}" if name == "robomimic" else v01 / name).split())
    if name == "merged":
        assert "members=[Member(name='one', source=Selection(source=PpoRolloutSource(" in text
    else:
        assert "Made by PpoRolloutSource(camera='primary', allow_images=['gray']" in text
        assert "CutAfterSuccess(min_steps=6, rule='consecutive')" in text


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - {"rdt"}))
def test_it_can_be_converted(v01: Path, name: str) -> None:
    run("convert", v01 / name, v01 / "out", *(("--task", "put") if name == "robomimic" else ()))
    made = read_manifest(v01 / "out/meta/vla_data")
    assert made["format_version"] == 2
    assert made["provenance"]["source"]["type"].endswith("Source")
    assert verify(v01 / "out", deep=True, against=v01 / name).ok


def test_it_can_be_annotated(v01: Path) -> None:
    lengths = pq.read_table(v01 / "lerobot/meta/episodes/chunk-000/file-000.parquet")["length"].to_pylist()
    rows = [(e, t, t / 10 - 2) for e, length in enumerate(lengths) for t in range(length)]
    names = ("episode_index", "frame_index", "value")
    pq.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), v01 / "values.parquet")
    annotate(v01 / "lerobot", tag="v1", values=v01 / "values.parquet")
    made = manifest(v01 / "lerobot")
    facts = json.loads(pq.read_schema(v01 / "lerobot/meta/vla_data/advantages/v1.parquet").metadata[b"vla_data"])
    assert facts["dataset"]["sha256"] == made["content_digest"]


def test_what_was_resampled_gives_no_frames_of_its_source(v01: Path) -> None:
    with pytest.raises(UsageError) as refused:
        write_keep_ranges(v01 / "merged", v01 / "ranges.json")
    assert refused.value.code == "E232"
    assert write_keep_ranges(v01 / "rlds", v01 / "ranges.json")["frames"] > 0


def test_a_built_one_is_known_for_what_it_is(v01: Path) -> None:
    assert Definition({"min_success_steps": 4}).is_built(v01 / "rollouts", v01 / TFDS)
    with pytest.raises(TargetExistsError) as refused:
        Definition({"min_success_steps": 3}).is_built(v01 / "rollouts", v01 / TFDS)
    assert refused.value.code == "E412"


def test_it_may_be_replaced(v01: Path) -> None:
    with pytest.raises(TargetExistsError):
        vd.run(vd.open_source(v01 / "rollouts"), (), vd.open_sink(v01 / "rlds", format="rlds", name="n"))
    vd.run(vd.open_source(v01 / "rollouts"), (), vd.open_sink(v01 / "rlds", format="rlds", name="n"), replace=True)
    assert manifest(v01 / "rlds")["format_version"] == 2


def test_a_manifest_of_a_later_version_is_refused(v01: Path) -> None:
    path = v01 / "lerobot/meta/vla_data/manifest.json"
    path.write_text(json.dumps({**manifest(v01 / "lerobot"), "format_version": 3}))
    with pytest.raises(DataError) as refused:
        read_manifest(path.parent)
    assert "version 3" in str(refused.value)


REPR = "Step(a=1, b=-2.5, c=(1, (2,)), d={'x': [1]}, e=None, f=Sub(g='h'), i=[Sub(g=True)], j=())"
JSON = {
    "type": "Step",
    "a": 1,
    "b": -2.5,
    "c": [1, [2]],
    "d": {"x": [1]},
    "e": None,
    "f": {"type": "Sub", "g": "h"},
    "i": [{"type": "Sub", "g": True}],
    "j": [],
}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (REPR, JSON),
        *((text, {"repr": text}) for text in ("", "1", "<Step object at 0x7f>", "a.B(c=1)", "F(1)", "F(**x)")),
        *((text, {"repr": text}) for text in ("F(a=open('x'))", "F(a=b)", "F(a=[x for x in y])", "(" * 5000)),
    ],
)
def test_a_repr_becomes_json_and_is_never_evaluated(text: str, want: Any) -> None:
    found = provenance_of({"source": text, "steps": [text], "sink": text})
    assert found == {"source": want, "recipe": [want], "sink": want}
