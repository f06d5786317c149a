"""A plan is what happens: the exit code and the counts of a run, and nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_curation import report, run, tree
from tests.hdf5_files import ROBOMIMIC, edited
from tests.rollouts import rollout, save
from vla_data.errors import VlaDataError

ANSWERS: dict[str, tuple[tuple[object, ...], int]] = {
    "good": (("convert", "IN", "OUT"), 0),
    "one is bad": (("convert", "BAD", "OUT"), 3),
    "too many are bad": (("convert", "BAD", "OUT", "--max-bad", 0), 4),
    "none is left": (("align", "IN", "OUT", "--min-length", 1000), 4),
    "of two kinds": (("convert", "KINDS", "OUT"), 2),
    "of two kinds, without what differs": (("convert", "KINDS", "OUT", "--drop", "observation.state"), 0),
    "duplicates": (("merge", "OUT", "IN", "IN2", "--dedup"), 0),
    "the target exists": (("convert", "IN", "SET"), 5),
    "the target is inside": (("convert", "IN", "IN/SET"), 2),
    "masks": (("split", "H5.hdf5", "--to", "masks", "--task", "lift", "-o", "OUT"), 0),
    "masks that are there": (("split", "MASKED.hdf5", "--to", "masks", "--task", "lift", "-o", "MASKED.hdf5"), 5),
    "masks of no HDF5 file": (("split", "SET", "--to", "masks", "-o", "OUT"), 2),
    "a list": (("split", "SET", "--to", "episode-list", "-o", "OUT"), 0),
    "a list of no LeRobot": (("split", "IN", "--to", "episode-list", "-o", "OUT"), 2),
    "a list without episodes": (
        ("split", "SET", "--to", "episode-list", "--val", 1e-9, "--part", "val", "-o", "OUT"),
        2,
    ),
    "ranges of a file that exists": (("convert", "IN", "H5.hdf5", "--to", "keep-ranges"), 5),
    "ranges": (("convert", "IN", "OUT", "--to", "keep-ranges"), 0),
    "a list by convert": (("convert", "IN", "OUT", "--to", "episode-list"), 2),
    "a table": (("quality", "IN", "-o", "OUT.json"), 0),
    "a table that exists": (("quality", "IN", "-o", "T.json"), 5),
    "a repair without its source": (("repair", "HURT"), 2),
    "a repair from another source": (("repair", "HURT", "KINDS"), 5),
    "a repair": (("repair", "HURT", "IN"), 0),
    "a file that was renamed": (("repair", "MOVED"), 0),
}
"""Words of a command, and the exit code of both."""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plans")
    for number in range(3):
        made = rollout(T=6, seed=number, size=(8, 8))
        for name in ("IN", "IN2", "BAD"):
            save(folder / name, f"{number}.npz", made)
        if number == 1:
            made["state"] = np.zeros((6, 2), np.float32)
        save(folder / "KINDS", f"{number}.npz", made)
    (folder / "BAD/1.npz").write_bytes(b"nothing")
    (folder / "T.json").write_text("{}")
    report("convert", folder / "IN", folder / "SET", "--workers", 1)
    for name in ("HURT", "MOVED"):
        shutil.copytree(folder / "SET", folder / name)
    data = next((folder / "HURT/data").rglob("*.parquet"))
    data.write_bytes(data.read_bytes()[:-1])
    data = next((folder / "MOVED/data").rglob("*.parquet"))
    data.rename(data.with_suffix(".old"))
    shutil.copy(ROBOMIMIC, folder / "MASKED.hdf5")
    edited(ROBOMIMIC, folder / "H5.hdf5", lambda file: file.pop("mask"))
    return folder


def said(*words: object) -> tuple[int, list[str]]:
    """The exit code of a command, and its lines."""
    result = run(*words)
    if isinstance(result.exception, VlaDataError):  # which `main` prints
        return result.exception.exit_code, [*result.output.splitlines(), str(result.exception)]
    return result.exit_code, result.output.splitlines()


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_plan_has_the_exit_code_of_its_run_and_writes_nothing(tmp_path: Path, given: Path, kind: str) -> None:
    words, code = ANSWERS[kind]
    shutil.copytree(given, tmp_path, dirs_exist_ok=True)
    before = tree(tmp_path)
    call = [tmp_path / str(word) if str(word)[:1].isupper() else word for word in words]
    assert said(*call, "--dry-run")[0] == code
    assert tree(tmp_path) == before
    assert said(*call, *(() if words[0] in ("split", "quality") else ("--workers", 1)))[0] == code
    if code in (0, 3):
        assert tree(tmp_path) != before


def test_a_plan_counts_duplicates_as_the_run_does(tmp_path: Path, given: Path) -> None:
    words = ("merge", tmp_path / "out", given / "IN", given / "IN2")
    kept = report(*words, "--dry-run")
    assert (kept["outcomes"], kept["frames"]["kept"]) == ({"published": 6}, 36)
    assert any("3 episodes repeat the content of another" in line for line in kept["warnings"])
    plan = report(*words, "--dedup", "--dry-run")
    assert (plan["outcomes"], plan["frames"]["kept"]) == ({"published": 3, "rejected": 3}, 18)
    assert not any("repeat" in line for line in plan["warnings"])
    done = report(*words, "--dedup", "--workers", 1)["counts"]
    assert (done["published_episodes"], done["kept"]) == (3, 18)
    assert plan["bytes"] < kept["bytes"]


def test_a_plan_says_that_a_gate_was_not_tried(tmp_path: Path, given: Path) -> None:
    words = ("convert", given / "IN", tmp_path / "out", "--dry-run")
    assert report(*words)["not_tried"] == []
    assert report(*words, "--gate", "gr00t")["not_tried"] == ["gr00t's loader: it opens what a run wrote"]
    assert "Not tried   gr00t's loader" in run(*words, "--gate", "gr00t").output


# -- what a run tells -------------------------------------------------------------------------------------------


def test_what_rl4vla_steps_do_not_hold_is_told(tmp_path: Path) -> None:
    made = rollout(T=6, size=(8, 8))
    made["state"] = np.zeros((6, 2), np.float32)
    save(tmp_path / "in", "a.npz", made)
    words = ("build", "ppo_sft_aligned", "--input", tmp_path / "in", "--min-success-steps", 0)
    words = (*words, "--val-fraction", 0)
    told = report(*words, "--data-dir", tmp_path / "a", "--workers", 1)["warnings"]
    assert [line for line in told if "observation.state" in line and "--step-fields rlds" in line] == told
    assert len(told) == 1
    assert told == report(*words, "--data-dir", tmp_path / "b", "--dry-run")["warnings"]
    kept = report(*words, "--data-dir", tmp_path / "c", "--workers", 1, "--step-fields", "rlds")["warnings"]
    assert kept == []


def test_a_table_of_nothing_that_can_be_read_is_refused_with_alike_lines_together(tmp_path: Path) -> None:
    for number in range(20):
        save(
            tmp_path / "in",
            f"{number}.npz",
            rollout(T=3, seed=number, size=(8, 8), actions=[[float("nan")] * 7] * 3),
        )
    for more in ([], ["--filter", "steps > 2"]):
        code, lines = said("quality", tmp_path / "in", *more)
        assert code == 4
        assert len([line for line in lines if "E201" in line]) == 5  # three, a count, and the refusal
        assert "E402" in lines[-1]


def test_a_gate_says_which_option_writes_what_it_reads(tmp_path: Path, given: Path) -> None:
    code, lines = said("convert", given / "IN", tmp_path / "out", "--gate", "gr00t", "--workers", 1)
    assert (code, (tmp_path / "out").exists()) == (6, False)
    assert "gr00t reads LeRobot v2, not v3.0; write it with --version v2.1" in lines[-1]
