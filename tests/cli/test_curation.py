"""align, build and convert of any format, and runs without results, in one process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import vla_data as vd
from tests.hdf5_files import MANISKILL, ROBOMIMIC
from tests.paths import TESTS
from tests.rollouts import rollout, save
from vla_data.cli import cli
from vla_data.errors import VerifyError, VlaDataError

pytest.importorskip("h5py")
BRIDGE = TESTS / "data/rlds"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in arguments])


def refused(*arguments: object) -> VlaDataError:
    result = run(*arguments)
    assert isinstance(result.exception, VlaDataError), result.output
    return result.exception


def report(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return json.loads(result.stdout)


def tree(folder: Path) -> list[tuple[str, bytes | None]]:
    """Every name below a folder, with the bytes of files."""
    return sorted((str(p.relative_to(folder)), p.read_bytes() if p.is_file() else None) for p in folder.rglob("*"))


# -- other formats are curated ------------------------------------------------------------------------------


def test_hdf5_is_curated_with_its_own_options(tmp_path: Path) -> None:
    """ManiSkill's actions are controller inputs: thresholds in metres need metres."""
    given = ("--task", "pick it", "--fps", 20, "--min-success-steps", 3)
    error = refused("align", MANISKILL, tmp_path / "no", *given)
    assert error.code == "E231"
    assert "--actions physical" in error.message
    found = report("align", MANISKILL, tmp_path / "out", *given, "--actions", "physical", "--workers", 1)
    assert found["counts"]["total_files"] == 2
    assert sum(found["counts"][bucket] for bucket in ("kept", "pruned", "truncated", "rejected")) > 0
    records = vd.open_ledger(tmp_path / "out").records
    solved = [record for record in records if record.status == "published"]
    assert solved
    assert all(record.success for record in solved)
    kept = report(
        "align", f"hdf5:{MANISKILL}", tmp_path / "all", *given, "--pos-thresh", "none", "--rot-thresh", "none"
    )
    assert kept["counts"]["pruned"] == 0


def test_a_format_without_success_flags_says_so_once(tmp_path: Path) -> None:
    error = refused(
        "align", ROBOMIMIC, tmp_path / "out", "--task", "lift", "--pos-thresh", "none", "--rot-thresh", "none"
    )
    assert error.code == "E402"
    assert "next.success" in error.message
    assert "--min-success-steps 0" in error.message


def test_rlds_is_curated_into_tfds_too(tmp_path: Path) -> None:
    words = ("--fps", 5, "--min-success-steps", 0, "--pos-thresh", "none", "--rot-thresh", "none")
    found = report(
        "build", "ppo_sft_aligned", "--input", BRIDGE, "--data-dir", tmp_path, *words, "--workers", 1,
        "--allow-empty-instruction",
    )  # fmt: skip
    assert found["counts"]["published_episodes"] == found["counts"]["total_files"] > 0


def test_options_of_another_format_are_refused(tmp_path: Path) -> None:
    save(tmp_path, "a.npz", rollout())
    error = refused("align", tmp_path, tmp_path.parent / "out", "--observation-time", "before")
    assert (error.code, "is not an option of format ppo_rollout" in error.message) == (
        "E001",
        True,
    )


def test_a_lerobot_dataset_is_not_curated_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save(tmp_path / "in", "a.npz", rollout(T=12))
    report("align", tmp_path / "in", tmp_path / "one", "--workers", 1)
    again = report("align", tmp_path / "one", tmp_path / "two", "--workers", 1)
    assert any("taken as it is, not curated" in line for line in again["warnings"])
    curated = report("align", tmp_path / "one", tmp_path / "three", "--min-success-steps", 3, "--workers", 1)
    assert not any("taken as it is" in line for line in curated["warnings"])


def test_a_task_is_for_rollouts_without_a_text(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save(tmp_path / "in", "a.npz", rollout(T=12, instruction=""))
    save(tmp_path / "in", "b.npz", rollout(T=12, seed=1))
    report("align", tmp_path / "in", tmp_path / "out", "--task", "lift it", "--workers", 1)
    source = vd.open_source(tmp_path / "out")
    assert [source.read(ref).task for ref in source.episodes()] == ["lift it", "put carrot on plate"]


# -- what is left out, lacking, or wrong is said ---------------------------------------------------------------


def test_what_is_left_out_and_lacking_is_in_the_result(tmp_path: Path) -> None:
    rows = rollout(T=12)
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    save(tmp_path / "in", "a.npz", rows)
    save(tmp_path / "out", "b.npz", rows)
    (tmp_path / "in/more").symlink_to(tmp_path / "out")
    found = report("convert", tmp_path / "in", tmp_path / "set", "--drop", "action", "--workers", 1)
    assert "the dataset has no action" in found["warnings"]
    assert any(line.startswith("left alone: more") for line in found["warnings"])
    text = run("inspect", tmp_path / "in").stdout
    assert "Left alone" in text
    assert "more: a link to a folder" in " ".join(text.split())


def test_many_alike_problems_are_told_together(tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path, f"{number}.npz", rollout(instruction=""))
    save(tmp_path, "good.npz", rollout(T=12))
    result = run("convert", tmp_path, tmp_path.parent / f"{tmp_path.name}-out", "--workers", 1)
    told = [line for line in result.stderr.splitlines() if "E211" in line]
    assert len(told) == 4
    assert "37 more episodes" in told[-1]


def test_a_gate_that_fails_leaves_nothing_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    save(tmp_path / "in", "a.npz", rollout(T=12))
    seen = []

    class Gate:
        @staticmethod
        def read_back(folder: Path) -> None:
            seen.append((folder / "meta/info.json").is_file())
            raise VerifyError("E601", "the trainer can't read it")

    monkeypatch.setattr("vla_data.cli.conversion.load_trainer", lambda name, role: Gate)
    error = refused("convert", tmp_path / "in", tmp_path / "set", "--gate", "openpi", "--workers", 1)
    assert (error.code, seen) == ("E601", [True])
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 20])
@pytest.mark.parametrize("salt", range(5))
def test_val_is_never_far_beyond_its_share(count: int, salt: int) -> None:
    from converters.rlds.sink import RldsSink
    from vla_data.core import Published

    names = [f"{salt}/{number}" for number in range(count)]
    episodes = [Published(name, name, {}, "", bytes) for name in names]
    found = list(RldsSink(target=Path("x"), name="x", val_fraction=0.05).split_of(episodes).values())
    assert 1 <= found.count("val") <= max(1, int(0.05 * count + 3 * np.sqrt(0.05 * 0.95 * count)))


# -- runs without results ---------------------------------------------------------------------------------------


WRITERS: dict[str, tuple[object, ...]] = {
    "align": ("align", "IN", "OUT"),
    "build": ("build", "ppo_sft_aligned", "--input", "IN", "--data-dir", "OUT"),
    "convert": ("convert", "IN", "OUT"),
    "convert to rlds": ("convert", "IN", "OUT", "--to", "rlds"),
    "merge": ("merge", "OUT", "IN", "TOO"),
    "sanitize": ("sanitize", "IN", "OUT"),
    "seal": ("seal", "IN"),
    "split": ("split", "IN", "--output", "OUT"),
    "stats": ("stats", "SET", "--format", "lerobot", "--output", "OUT"),
    "repair": ("repair", "SET"),
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dry")
    for name in ("IN", "TOO"):
        (folder / name).mkdir()
        for number in range(3):
            save(folder / name, f"{number}.npz", rollout(T=12, seed=number + len(name)))
    report("align", folder / "IN", folder / "SET", "--workers", 1)
    return folder


@pytest.mark.parametrize("kind", WRITERS)
def test_a_dry_run_writes_nothing(tmp_path: Path, given: Path, kind: str) -> None:
    shutil.copytree(given, tmp_path, dirs_exist_ok=True)
    before = tree(tmp_path)
    words = [tmp_path / word if word in ("IN", "TOO", "SET", "OUT") else word for word in WRITERS[kind]]
    result = run(*words, "--dry-run")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "ry run" in result.output
    assert tree(tmp_path) == before


def test_a_dry_run_of_an_annotation_writes_nothing(tmp_path: Path, given: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    shutil.copytree(given / "SET", tmp_path / "SET")
    table = pq.read_table(
        next((tmp_path / "SET/data").rglob("*.parquet")), columns=["episode_index", "frame_index"]
    )
    pq.write_table(table.append_column("value", pa.array(np.zeros(len(table)))), tmp_path / "v.parquet")
    before = tree(tmp_path)
    result = run("annotate", tmp_path / "SET", "--tag", "v1", "--values", tmp_path / "v.parquet", "--dry-run")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "would write: meta/vla_data/advantages/v1.parquet" in result.output
    assert tree(tmp_path) == before


def test_a_dry_run_says_what_would_be_refused(tmp_path: Path, given: Path) -> None:
    shutil.copytree(given, tmp_path, dirs_exist_ok=True)
    (tmp_path / "IN/bad.npz").write_bytes(b"nothing")
    result = run("convert", tmp_path / "IN", tmp_path / "SET", "--dry-run")
    assert result.exit_code == 5
    assert "E411" in result.output
    assert "bad.npz" in result.output
    found = report("convert", tmp_path / "IN", tmp_path / "new", "--dry-run")
    assert (found["episodes"], found["outcomes"]) == (4, {"published": 3, "failed": 1})
    assert found["bytes"] > 0
    assert "action: rotation" in found["undeclared"]
