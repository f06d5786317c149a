"""The command line as a stranger meets it: exit codes, one line a problem, odd names and odd terminals."""

from __future__ import annotations

import fcntl
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import vla_data
from converters.rollouts.source import PpoRolloutSource
from tests.paths import ROOT, TESTS
from tests.rollouts import CAMERA, rollout, save
from vla_data.cli import COMMANDS, cli

REAL = TESTS / "data/rollouts"
COUNTS = {
    "total_files",
    "successful_episodes",
    "failed_episodes",
    "filtered_episodes",
    "error_episodes",
    "success_rate",
    "source",
    "kept",
    "pruned",
    "truncated",
    "rejected",
    "failed",
}
T = 10


def run(
    *arguments: object, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """``vla-data ARGUMENTS`` in a process of its own; a hang is a failure."""
    done = subprocess.run(
        [sys.executable, "-m", "vla_data", *map(_text, arguments)],
        env={**os.environ, **env} if env is not None else None,
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=options.pop("stderr", subprocess.PIPE),
        text=True,
        errors="surrogateescape",
        timeout=options.pop("timeout", 20),
        cwd=options.pop("cwd", ROOT),
        check=False,
        **options,
    )
    assert "Traceback" not in (done.stderr or ""), done.stderr
    return done


def _text(argument: object) -> str:
    return os.fspath(argument) if isinstance(argument, Path) else str(argument)


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Lines on standard error, each of which must be ours and safe to show."""
    for line in done.stderr.split("\n")[:-1]:
        assert line.startswith("vla-data: "), done.stderr
        assert line.isprintable(), repr(line)
    return done.stderr.split("\n")[:-1]


def make(folder: Path, count: int = 3, **options: Any) -> Path:
    for i in range(count):
        save(folder, f"e{i}.npz", rollout(T, size=(8, 16), seed=i, **options))
    return folder


def spoil(path: Path) -> None:
    """Make the rollout a bad one: NaN in action[4][2]."""
    data = rollout(T, size=(8, 16))
    data["action"][4, 2] = np.nan
    save(path.parent, path.name, data)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """The real episodes, aligned once: the dataset, what was printed, and what ``--json`` says."""
    out = tmp_path_factory.mktemp("real") / "aligned"
    human = run("align", REAL, out)
    assert human.returncode == 0, human.stderr
    machine = run("align", REAL, out.with_name("again"), "--json")
    assert machine.returncode == 0, machine.stderr
    return out, human.stdout, json.loads(machine.stdout)


# -- real episodes ---------------------------------------------------------------------------------------


def expected_counts(min_success: int = 6, pos: float = 0.01, rot: float = 0.06) -> dict[str, float]:
    """The statistics of the real episodes, computed the slow way and by nothing of this library."""
    out = dict.fromkeys(COUNTS, 0.0)
    for path in sorted(REAL.iterdir()):
        loaded = np.load(path, allow_pickle=True)
        data = (loaded["arr_0"] if path.suffix == ".npz" else loaded).item()
        actions = [[np.float32(x) for x in row] for row in data["action"]]
        out["total_files"] += 1
        out["source"] += len(actions)
        streak, end = 0, None
        for t, info in enumerate(data["info"]):
            streak = streak + 1 if bool(np.all(info["success"])) else 0
            if streak == min_success:
                end = t + 1
                break
        if end is None:
            out["failed_episodes"] += 1
            out["rejected"] += len(actions)
            continue
        out["successful_episodes"] += 1
        out["truncated"] += len(actions) - end
        kept, gripper = 0, np.float32(1)
        for action in actions[:end]:
            moved = float(np.sqrt(sum(float(x) ** 2 for x in action[:3])))
            turned = float(np.sqrt(sum(float(x) ** 2 for x in action[3:6])))
            kept += moved > pos or turned > rot or action[6] != gripper
            gripper = action[6]
        out["kept"] += kept
        out["pruned"] += end - kept
        out["filtered_episodes"] += kept != len(actions)
    out["success_rate"] = out["successful_episodes"] / out["total_files"]
    return out


def test_statistics_of_the_real_episodes_equal_an_independent_count(real: tuple[Path, str, Any]) -> None:
    want = expected_counts()
    assert (want["successful_episodes"], want["failed_episodes"], want["source"]) == (2, 1, 105)
    got = real[2]["counts"]
    assert {name: got[name] for name in want} == want


def test_statistics_block_shows_the_same_numbers(real: tuple[Path, str, Any]) -> None:
    want = expected_counts()
    rows = (re.split(r"  +", line.strip()) for line in real[1].splitlines() if line.startswith("  "))
    shown = {row[0]: row[1] for row in rows if len(row) > 1}
    for title in ("Total files", "Successful episodes", "Failed episodes", "Filtered episodes"):
        assert shown[title] == f"{want[title.lower().replace(' ', '_')]:.0f}", title
    assert shown["Error episodes"] == "0"
    assert shown["Success rate"] == "66.67 %"
    assert shown["Source frames"] == "105"
    for bucket in ("kept", "pruned", "truncated", "rejected", "failed"):
        assert shown[bucket] == f"{want[bucket]:.0f}", bucket


def test_statistics_block_fits_a_terminal_of_80_columns(real: tuple[Path, str, Any]) -> None:
    block = real[1].split("Dataset:")[0]
    assert [line for line in block.splitlines() if len(line) > 80] == []


def test_last_lines_say_where_the_dataset_lies(real: tuple[Path, str, Any]) -> None:
    assert f"Dataset: {real[0]}" in real[1]
    assert (real[0] / "meta/info.json").is_file()


def test_json_holds_the_promised_counts_and_sums(real: tuple[Path, str, Any]) -> None:
    counts = real[2]["counts"]
    assert set(counts) >= COUNTS
    episodes = ("successful_episodes", "failed_episodes", "error_episodes")
    assert counts["total_files"] == sum(counts[name] for name in episodes)
    buckets = ("kept", "pruned", "truncated", "rejected", "failed")
    assert counts["source"] == sum(counts[name] for name in buckets)


def test_same_rollouts_give_the_same_dataset_byte_by_byte(real: tuple[Path, str, Any]) -> None:
    assert tree(real[0]) == tree(real[0].with_name("again"))


# -- the command lines of the documentation --------------------------------------------------------------


def test_align_takes_every_documented_option(good: Path, tmp_path: Path) -> None:
    options = "--min-success-steps 6 --pos-thresh 0.01 --rot-thresh 0.06 --compat rl4vla --workers 1 --debug"
    done = run("align", good, tmp_path / "out", *options.split(), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["kept"] == 3 * 8


def test_build_writes_a_tfds_dataset(good: Path, tmp_path: Path) -> None:
    done = run("build", "ppo_sft_aligned", "--input", good, "--data-dir", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["counts"]["kept"] == 3 * 8
    assert (Path(answer["target"]) / "features.json").is_file()
    assert Path(answer["target"]) == tmp_path / "ppo_sft_aligned/default/1.0.0"


def test_inspect_says_what_rollouts_hold() -> None:
    done = run("inspect", REAL, "--json")
    assert done.returncode == 0
    facts = json.loads(done.stdout)
    assert facts["format"] == "ppo_rollout"
    assert (facts["episodes"], facts["readable"], facts["with_success"]) == (3, 3, 2)
    assert facts["image_size"] == {"observation.images.primary 120x160": 3}
    assert facts["instruction"] == {"put carrot on plate": 3}
    assert facts["undeclared"] == ["action: rotation"]


def test_inspect_says_what_a_dataset_holds(real: tuple[Path, str, Any]) -> None:
    done = run("inspect", real[0], "--json")
    assert done.returncode == 0
    facts = json.loads(done.stdout)
    assert facts["format"] == "lerobot"
    assert facts["counts"] == real[2]["counts"]


def test_why_answers_for_an_episode(real: tuple[Path, str, Any]) -> None:
    done = run("why", real[0], "drop_ep4", "--json")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert (answer["status"], answer["reason"]) == ("rejected", "no_success")
    assert answer["frames"]["rejected"] == 32


@pytest.mark.parametrize(("frame", "bucket"), [(0, None), (32, "truncated")])
def test_why_answers_for_a_frame(real: tuple[Path, str, Any], frame: int, bucket: str | None) -> None:
    answers = [json.loads(run("why", place, "hold_ep0", frame, "--json").stdout) for place in (real[0], REAL)]
    for answer in answers:
        assert answer["frame"] == frame
        assert bucket is None or answer["bucket"] == bucket
        assert (answer["output_frame"] is not None) == (answer["bucket"] == "kept")
    assert answers[0]["bucket"] == answers[1]["bucket"]  # the dataset's ledger and the folder agree


@pytest.mark.parametrize("arguments", [("zzz",), ("hold_ep0", "33"), ("PutCarrot",)])
def test_why_refuses_what_is_not_there_or_not_unique(
    real: tuple[Path, str, Any], arguments: tuple[str, ...]
) -> None:
    done = run("why", real[0], *arguments)
    assert done.returncode == 2
    assert len(lines(done)) == 1
    assert "E007" in done.stderr


# -- seal and sanitize -----------------------------------------------------------------------------------


def test_seal_is_what_sha256sum_checks(tmp_path: Path) -> None:
    folder = make(tmp_path / "in")
    save(folder, "a\nb\\c.npz", rollout(T, size=(8, 16), seed=9))
    assert run("seal", folder).returncode == 0
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, check=False)
    assert checked.returncode == 0
    assert checked.stdout.count(b": OK") == 4


def test_sealed_folder_with_a_changed_and_a_missing_file(tmp_path: Path) -> None:
    folder = make(tmp_path / "in", 4)
    assert run("seal", folder).returncode == 0
    (folder / "e0.npz").unlink()
    save(folder, "e1.npz", rollout(T, size=(8, 16), seed=77))
    done = run("align", folder, tmp_path / "out", "--max-bad", "0.5", "--json")
    assert done.returncode == 3
    codes = {p["episode"]: p["code"] for p in json.loads(done.stdout)["problems"]}
    assert codes == {"e0.npz": "E133", "e1.npz": "E132"}
    assert len(lines(done)) == 2


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_seal_checks_what_it_sealed_before_and_names_it_on_one_line(damage: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "in", 1)
    odd = save(folder, "a\x1b[2J\nb.npz", rollout(T, size=(8, 16), seed=9))
    assert run("seal", folder).returncode == 0
    before = (folder / "SHA256SUMS").read_bytes()
    odd.unlink() if damage == "missing" else spoil(odd)
    done = run("seal", folder)
    assert (folder / "SHA256SUMS").read_bytes() == before
    assert len(lines(done)) == 1
    assert ("E132" if damage == "changed" else "E133") in done.stderr
    assert done.returncode not in (0, 1, 7)


@pytest.mark.parametrize("char", ["\r", "\x0b", "\x85", "\u2028"])
def test_sealed_name_with_a_line_separator_is_read_again(char: str, tmp_path: Path) -> None:
    from vla_data.files.sums import read_seal, write_seal

    name = f"a{char}b.npz"
    (tmp_path / name).write_bytes(b"x")
    write_seal(tmp_path, [name])
    assert list(read_seal(tmp_path) or ()) == [name]


def test_sealed_name_that_is_not_utf8_is_read_again(tmp_path: Path) -> None:
    from vla_data.files.sums import read_seal, write_seal

    (tmp_path / "\udcff.npz").write_bytes(b"x")
    write_seal(tmp_path, ["\udcff.npz"])
    assert list(read_seal(tmp_path) or ()) == ["\udcff.npz"]


def test_sanitized_folder_reads_the_same_and_needs_no_pickle(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for i, images in enumerate(("arrays", "pil", "jpeg", "png")):
        save(folder, f"sub/success_{i}.npy", rollout(T, images=images, size=(8, 16), seed=i))  # type: ignore[arg-type]
    planner = rollout(T, images="pil", size=(8, 16), extra_image=False, seed=7)
    save(folder, "success_proc_0.npz", {**planner, "is_image_encode": False})
    done = run("sanitize", folder, tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    old, new = PpoRolloutSource(root=folder), PpoRolloutSource(root=tmp_path / "out")
    assert len(old.episodes()) == len(new.episodes()) == 5
    for before, after in zip(old.episodes(), new.episodes(), strict=True):
        assert after.id == before.id.rsplit(".", 1)[0] + ".npz"
        with np.load(tmp_path / "out" / after.id, allow_pickle=False) as plain:
            assert {"image", "action", "instruction", "info.success"} <= set(plain.files)
            assert all(plain[name].dtype != object for name in plain.files)
        one, two = old.read(before), new.read(after)
        assert one.task == two.task
        assert {**one.meta, "source_sha256": ""} == {**two.meta, "source_sha256": ""}
        for name, array in one.arrays.items():
            np.testing.assert_array_equal(array, two.arrays[name])
        for frames in ("frames", "final"):
            a, b = getattr(one, frames).get(CAMERA), getattr(two, frames).get(CAMERA)
            assert (a is None) == (b is None)
            for t in range(len(a or ())):
                np.testing.assert_array_equal(a.pixels(t), b.pixels(t))


def test_sanitized_real_episodes_give_the_same_dataset(real: tuple[Path, str, Any], tmp_path: Path) -> None:
    assert run("sanitize", REAL, tmp_path / "plain").returncode == 0
    assert run("align", tmp_path / "plain", tmp_path / "out").returncode == 0
    old, new = tree(real[0]), tree(tmp_path / "out")
    data = [name for name in old if name.startswith("data/")]
    assert data
    assert [old[name] for name in data] == [new[name] for name in data]


def test_sanitized_folder_is_ours_and_can_be_replaced(good: Path, tmp_path: Path) -> None:
    assert run("sanitize", good, tmp_path / "out").returncode == 0
    assert run("sanitize", good, tmp_path / "out").returncode == 5
    done = run("sanitize", good, tmp_path / "out", "--replace")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("key", ["a/b", "a\\b", "a\x00b", "a\ud800", ".a", "k" * 70_000])
def test_sanitized_rollout_with_an_odd_info_key_can_be_read_again(key: str, tmp_path: Path) -> None:
    """In process: each would cost two seconds otherwise."""
    from converters.rollouts.sink import PlainRolloutSink

    data = rollout(T, size=(8, 16))
    data["info"] = [{**info, key: t} for t, info in enumerate(data["info"])]
    save(tmp_path / "in", "e0.npz", data)
    source = PpoRolloutSource(root=tmp_path / "in")
    episode = source.read(source.episodes()[0])
    encoded = PlainRolloutSink(target=tmp_path).encode(episode, source.schema(episode))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/e0.npz").write_bytes(b"".join(encoded.blob))
    plain = PpoRolloutSource(root=tmp_path / "out")
    again = plain.read(plain.episodes()[0])
    np.testing.assert_array_equal(again.arrays["action"], episode.arrays["action"])


def test_sanitize_keeps_files_apart_whose_names_would_meet(tmp_path: Path) -> None:
    for i, name in enumerate(("a.npz", "a.npy", "a.npz.npz")):
        save(tmp_path / "in", name, rollout(T, size=(8, 16), seed=i))
    done = run("sanitize", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(PpoRolloutSource(root=tmp_path / "out").episodes()) == 3


# -- exit codes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("align", "missing", "{out}"), 2),
        (("align", "{empty}", "{out}"), 2),
        (("align", "ppo_rollout:{empty}", "{out}"), 2),
        (("convert", "{empty}", "{out}"), 2),
        (("convert", "hdf5:{empty}", "{out}"), 2),
        (("inspect", "ppo_rollout:{empty}"), 2),
        (("align", "{good}", "{good}/inside"), 2),
        (("align", "{good}/e0.npz", "{good}"), 2),
        (("align", "{good}", "{file}"), 5),
        (("align", "{good}", "{full}"), 5),
        (("align", "{good}", "{full}", "--replace"), 5),
        (("align", "{good}", "{file}/below"), 7),
        (("align", "{good}", "/proc/vla-data-test"), 7),
        (("align", "{good}", "{out}", "--min-length", "5", "--max-length", "2"), 2),
        (("align", "{good}", "{out}", "--pos-thresh=-1"), 2),
        (("align", "{good}", "{out}", "--gripper-hysteresis", "1", "-1"), 2),
        (("align", "{good}", "{out}", "--fps", "nan"), 2),
        (("align", "{good}", "{out}", "--max-bad", "nan"), 2),
        (("align", "{good}", "{out}", "--action-limit", "nan"), 2),
        (("why", "{good}", "e0", "--pos-thresh=-1"), 2),
        (("why", "{good}", "e0", "--gripper-hysteresis", "1", "-1"), 2),
        (("why", "missing", "e0"), 2),
        (("inspect", "missing"), 2),
        (("inspect", "{empty}"), 2),
        (("inspect", "plain_rollout:{good}"), 2),
        (("seal", "missing"), 2),
        (("seal", "{empty}"), 2),
        (("build", "ppo_stf_aligned", "--input", "{good}", "--data-dir", "{out}"), 2),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else None,
)
def test_exit_code_and_one_line(arguments: tuple[str, ...], code: int, good: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    (tmp_path / "file").write_text("a file")
    places = {name: str(tmp_path / name) for name in ("empty", "full", "file", "out")}
    done = run(*(argument.format(good=good, **places) for argument in arguments))
    assert done.returncode == code, done.stderr
    (line,) = lines(done)
    assert line.startswith("vla-data: E")
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "full/mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "arguments", [("align", "{good}", "{out}", "--bogus"), ("nosuch",), ("align", "{good}"), ()]
)
def test_wrong_call_is_2(arguments: tuple[str, ...], good: Path, tmp_path: Path) -> None:
    done = run(*(argument.format(good=good, out=tmp_path / "out") for argument in arguments))
    assert done.returncode == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--video h264 --preset nonsense", "preset of h264 is one of ultrafast, superfast"),
        ("--video av1 --preset 99", "preset of av1 is one of -1 to 13, not '99'"),
        ("--video av1 --preset fast", "preset of av1 is one of -1 to 13, not 'fast'"),
        ("--video av1 --fps 333.333", "av1 video has 1/1001 to 240 frames a second, not 333.333"),
        ("--video h264 --crf 60", "crf is 60, not from 0 to 51"),
        ("--images png --video av1", "give --images or --video, not both"),
        ("--crf 5", "--crf is for video"),
        ("--gop 7", "--gop is for video"),
        ("--preset slow", "--preset is for video"),
    ],
)
def test_wrong_image_options_are_refused_before_any_work(options: str, message: str, tmp_path: Path) -> None:
    done = run("align", tmp_path / "not_looked_at", tmp_path / "out", *options.split())
    assert done.returncode == 2
    (line,) = lines(done)
    assert line.startswith(f"vla-data: E001 usage: {message}")


@pytest.mark.parametrize("codec", ["av1", "h264"])
def test_image_size_that_no_encoder_takes_costs_the_episode_and_prints_one_line(
    codec: str, tmp_path: Path
) -> None:
    save(tmp_path / "in", "a.npz", rollout(size=(2, 2)))
    save(tmp_path / "in", "b.npz", rollout(size=(32, 32)))
    done = run("align", tmp_path / "in", tmp_path / "out", "--video", codec, "--workers", "1")
    assert done.returncode == 3
    (line,) = lines(done)
    assert line.startswith(f"vla-data: E203 shape: a.npz: {codec} video needs sides of")


def test_rate_of_a_source_that_the_encoder_refuses_is_one_line(tmp_path: Path) -> None:
    source = PpoRolloutSource(root=REAL, fps=400)
    vla_data.run(source, (), vla_data.open_sink(tmp_path / "fast"), workers=1)
    done = run("convert", tmp_path / "fast", tmp_path / "out", "--video", "av1", "--workers", "1")
    assert done.returncode == 2
    (line,) = lines(done)
    assert line.startswith("vla-data: E001 usage: av1 video has 1/1001 to 240 frames a second, not 400")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("align", "", "out"), "ROLLOUTS"),
        (("align", "in", ""), "OUT"),
        (("verify", ""), "DST"),
        (("verify", "in", "--against", ""), "--against"),
        (("verify", "in", "--against="), "--against"),
        (("repair", "in", ""), "SOURCE"),
    ],
)
def test_empty_path_is_refused_by_name(arguments: tuple[str, ...], name: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    (line,) = lines(done)
    assert line.startswith(f"vla-data: E001 usage: {name} is empty")


@pytest.mark.parametrize("episodes", ["0,0", "0-2,1", "0-99999999999", "9" * 5000])
def test_episodes_twice_or_too_many_are_refused(episodes: str, tmp_path: Path) -> None:
    done = run("convert", REAL, tmp_path / "out", "--episodes", episodes)
    assert done.returncode == 2
    (line,) = lines(done)
    assert line.startswith("vla-data: E001 usage: '")


def test_absolute_paths_work_from_a_folder_that_is_gone(good: Path, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    call = f'rmdir ../gone && exec "{sys.executable}" -m vla_data align "{good}" "{tmp_path}/out" --workers 2'
    done = subprocess.run(
        ["sh", "-c", call],
        cwd=tmp_path / "gone",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out/meta/info.json").is_file()


def test_verify_of_what_is_not_there_says_so(tmp_path: Path) -> None:
    done = run("verify", tmp_path / "gone")
    assert done.returncode == 2
    assert lines(done) == [f"vla-data: E003 not-found: {tmp_path / 'gone'} is not there"]


def test_wrong_call_is_one_line_like_every_other_problem(good: Path, tmp_path: Path) -> None:
    done = run("align", good, tmp_path / "out", "--bogus")
    assert lines(done)[-1].startswith("vla-data: E001 usage: ")


def test_bad_episode_costs_only_itself_and_is_3(tmp_path: Path) -> None:
    folder = make(tmp_path / "in")
    spoil(folder / "e1.npz")
    done = run("align", folder, tmp_path / "out", "--json")
    assert done.returncode == 3
    assert lines(done) == ["vla-data: E201 not-finite: e1.npz: action[4][2] is nan (quarantined)"]
    answer = json.loads(done.stdout)
    assert (answer["counts"]["error_episodes"], answer["counts"]["published_episodes"]) == (1, 2)
    assert answer["counts"]["failed"] == T
    assert answer["reasons"] == {"E201": 1}


def test_too_many_bad_is_4_and_publishes_nothing(tmp_path: Path) -> None:
    folder = make(tmp_path / "in")
    spoil(folder / "e1.npz")
    done = run("align", folder, tmp_path / "out", "--max-bad", "0")
    assert done.returncode == 4
    assert [line.split()[1] for line in lines(done)] == ["E201", "E401"]
    assert not (tmp_path / "out").exists()


def test_limit_that_a_refusal_suggests_is_accepted(tmp_path: Path) -> None:
    folder = make(tmp_path / "in")
    spoil(folder / "e1.npz")
    refusal = lines(run("align", folder, tmp_path / "out", "--max-bad", "0"))[-1]
    limit = refusal.split("--max-bad ")[1].split()[0]
    assert run("align", folder, tmp_path / "out", "--max-bad", limit).returncode == 3


@pytest.mark.parametrize("kind", ["bad", "unsolved"])
def test_no_good_episode_is_4_and_publishes_nothing(kind: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "in", success=[False] * T)
    for i in range(3 if kind == "bad" else 0):
        spoil(folder / f"e{i}.npz")
    done = run("align", folder, tmp_path / "out", "--max-bad", "1", "--json")
    assert done.returncode == 4
    assert "E402" in lines(done)[-1]
    assert json.loads(done.stdout)["error"]["code"] == "E402"
    assert not (tmp_path / "out").exists()


def test_target_that_exists_is_5_until_it_may_be_replaced(good: Path, tmp_path: Path) -> None:
    assert run("align", good, tmp_path / "out", "--max-episodes", 1).returncode == 0
    before = tree(tmp_path / "out")
    done = run("align", good, tmp_path / "out")
    assert done.returncode == 5
    assert len(lines(done)) == 1
    assert tree(tmp_path / "out") == before
    assert run("align", good, tmp_path / "out", "--replace").returncode == 0
    assert tree(tmp_path / "out") != before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_target_that_is_a_link_is_5(good: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to("elsewhere")
    assert run("align", good, tmp_path / "out", "--replace").returncode == 5
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_full_disk_is_7_and_leaves_the_old_dataset(good: Path, tmp_path: Path) -> None:
    assert run("align", good, tmp_path / "out", "--max-episodes", 1).returncode == 0
    before = tree(tmp_path / "out")

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # as a quota would: EFBIG

    done = run("align", good, tmp_path / "out", "--replace", preexec_fn=small)
    assert done.returncode == 7, done.stderr
    assert lines(done)[-1].startswith("vla-data: E701 disk-full: ")
    assert tree(tmp_path / "out") == before
    assert run("align", good, tmp_path / "out", "--replace").returncode == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission_is_7(good: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = run("align", good, tmp_path / "out")
    tmp_path.chmod(0o700)
    assert done.returncode == 7
    assert "E702" in lines(done)[0]


def test_second_run_on_a_target_is_8_at_once(good: Path, tmp_path: Path) -> None:
    work = tmp_path / ".out.vla-data"
    work.mkdir()
    handle = os.open(work, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        done = run("align", good, tmp_path / "out")
        assert done.returncode == 8
        assert [line.split()[1] for line in lines(done)] == ["E801"]
        assert list(work.iterdir()) == []
    finally:
        os.close(handle)
    assert run("align", good, tmp_path / "out").returncode == 0  # what a dead run leaves locks nothing


def test_debug_shows_a_traceback_of_a_defect_only(good: Path, tmp_path: Path) -> None:
    done = run("align", good, tmp_path / "out", "--max-bad", "0", "--debug", "--image-size", "1x1")
    assert done.returncode == 4
    assert lines(done)


# -- names and kinds of files ----------------------------------------------------------------------------

NAMES = ["a\nb", "[x]*?", "\x1b[31mred\x1b]2;t\x07", "\u202eabc", "-rf", "CON", "\N{CARROT}", "A", "a", "x" * 250]


def test_odd_names_are_read_and_shown_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "in [1]*"
    for i, name in enumerate(NAMES):
        save(folder, f"{name}.npz", rollout(T, size=(8, 16), seed=i))
    spoil(folder / "bad\n\x1b[2J.npz")
    done = run("align", folder, tmp_path / "out [2]*", "--json")
    assert done.returncode == 3, done.stderr
    assert lines(done) == ["vla-data: E201 not-finite: bad\\x0a\\x1b[2J.npz: action[4][2] is nan (quarantined)"]
    assert json.loads(done.stdout)["counts"]["published_episodes"] == len(NAMES)
    why = run("why", tmp_path / "out [2]*", "bad\n\x1b[2J.npz")
    assert why.returncode == 0
    assert all(line.isprintable() for line in why.stdout.splitlines())


@pytest.mark.parametrize("command", ["align", "sanitize"])
def test_name_that_is_not_utf8_is_read(command: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "in", 2)
    save(folder, "\udcff\udcfe.npz", rollout(T, size=(8, 16), seed=9))
    done = run(command, folder, tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["published_episodes"] == 3


def test_folder_that_starts_with_a_dash_is_read_after_two_dashes(good: Path, tmp_path: Path) -> None:
    (tmp_path / "-rf").symlink_to(good)
    assert run("align", "--", "-rf", "out", cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}).returncode == 0


@pytest.mark.parametrize(
    ("kind", "code"),
    [("link", "E131"), ("loop", "E131"), ("fifo", "E131"), ("link to a folder", "E131"), ("dangling", "E133")],
)
def test_what_is_no_file_of_the_folder_is_quarantined(kind: str, code: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "in", 2)
    odd = folder / "odd.npz"
    if kind == "fifo":
        os.mkfifo(odd)
    elif kind == "link":
        odd.symlink_to(save(tmp_path, "outside.npz", rollout(T)))
    elif kind == "loop":
        odd.symlink_to("odd.npz")
    elif kind == "dangling":
        odd.symlink_to("nowhere")
    else:
        odd.symlink_to("/")
    done = run("align", folder, tmp_path / "out", "--json")
    assert done.returncode == 3, done.stderr
    (problem,) = json.loads(done.stdout)["problems"]
    assert (problem["episode"], problem["code"]) == ("odd.npz", code)
    assert str(tmp_path) not in problem["message"]  # the ledger is the same on every machine


def test_link_to_another_rollout_of_the_folder_is_followed(tmp_path: Path) -> None:
    folder = make(tmp_path / "in", 1)
    (folder / "link.npz").symlink_to("e0.npz")
    done = run("align", folder, tmp_path / "out", "--json", "--dedup")
    assert done.returncode == 0
    assert json.loads(done.stdout)["reasons"] == {"duplicate": 1}


def test_same_content_twice_is_kept_with_a_warning_that_names_both(tmp_path: Path) -> None:
    folder = make(tmp_path / "in", 2)
    (folder / "copy.npz").write_bytes((folder / "e1.npz").read_bytes())
    done = run("align", folder, tmp_path / "out")
    assert done.returncode == 0
    (line,) = lines(done)
    assert "warning" in line
    assert "copy.npz" in line
    assert "e1.npz" in line


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_seal_opens_nothing_but_files_of_the_folder(kind: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "in", 1)
    os.mkfifo(folder / "odd.npz") if kind == "fifo" else (folder / "odd.npz").symlink_to("/etc/hostname")
    try:
        done = run("seal", folder, timeout=5)
    except subprocess.TimeoutExpired:
        pytest.fail("seal waits for a FIFO")
    assert done.returncode not in (0, 1)
    assert "E131" in lines(done)[0]


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_seal_that_is_no_file_is_not_read(kind: str, tmp_path: Path) -> None:
    from vla_data.errors import VlaDataError
    from vla_data.files.sums import read_seal

    seal = tmp_path / "SHA256SUMS"
    if kind == "fifo":
        os.mkfifo(seal)
        try:
            done = run("align", make(tmp_path, 1), tmp_path.with_name(f"{tmp_path.name}-out"), timeout=4)
        except subprocess.TimeoutExpired:
            pytest.fail("reading the seal waits for a FIFO")
        assert done.returncode not in (0, 1)
        return
    if kind == "folder":
        seal.mkdir()
    else:
        seal.symlink_to("/etc/hostname")
    with pytest.raises(VlaDataError):
        read_seal(tmp_path)


# -- terminals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C.UTF-8", "TERM": "dumb"},
    ],
    ids=["C", "ascii", "dumb"],
)
def test_runs_without_home_and_locale(env: dict[str, str], tmp_path: Path) -> None:
    folder = make(tmp_path / "in", 1, instruction="把胡萝卜放在盘子上")
    save(folder, "\N{CARROT}.npz", rollout(T, size=(8, 16), seed=9))
    spoil(folder / "é.npz")
    for arguments in (("align", folder, tmp_path / "out"), ("why", tmp_path / "out", "\N{CARROT}")):
        done = subprocess.run(
            [sys.executable, "-m", "vla_data", *(os.fsencode(argument) for argument in arguments)],
            env=env,
            cwd=ROOT,
            capture_output=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == (3 if arguments[0] == "align" else 0), done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_closed_stream_does_not_undo_the_work(closed: int, good: Path, tmp_path: Path) -> None:
    shell = ["/bin/sh", "-c", f'exec "$@" {closed}{"<" if closed == 0 else ">"}&-', "sh"]
    command = [sys.executable, "-m", "vla_data", "align", str(good), str(tmp_path / "out")]
    done = subprocess.run([*shell, *command], cwd=ROOT, capture_output=True, timeout=20, check=False)
    assert (tmp_path / "out/meta/info.json").is_file(), done.stderr
    assert done.returncode == 0, done.stderr
    assert b"E901" not in done.stderr


@pytest.mark.parametrize("arguments", [("align", "{good}", "{out}"), ("inspect", "{good}", "--json")])
def test_reader_that_went_away_is_no_defect(arguments: tuple[str, ...], good: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run(*(a.format(good=good, out=tmp_path / "out") for a in arguments), stdout=writer)
    finally:
        os.close(writer)
    assert done.returncode in (0, 141), done.stderr
    assert "E901" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_full_disk_under_standard_output_is_7(unbuffered: str, good: Path) -> None:
    with open("/dev/full", "w") as full:
        done = run("inspect", good, "--json", stdout=full, env={"PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 7, done.stderr
    assert done.stderr == "vla-data: E701 disk-full: cannot print: No space left on device\n"


def test_help_and_version_name_every_command() -> None:
    assert "vla-data" in run("--version").stdout
    shown = run("--help")
    assert shown.returncode == 0
    for name in ("align", "build", "inspect", "sanitize", "seal", "why"):
        assert f"  {name} " in shown.stdout


def test_help_fits_a_terminal_of_80_columns() -> None:
    shown = run("--help", env={"COLUMNS": "80"}).stdout
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    for name in COMMANDS:
        shown = help_of(name)
        assert [line for line in shown.splitlines() if len(line) > 80] == []


def help_of(name: str) -> str:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command.get_help(click.Context(command, info_name=name, terminal_width=80, max_content_width=80))


def test_help_lists_the_options_of_a_format_together_and_every_one() -> None:
    shown = help_of("convert")
    sections = dict(re.findall(r"^(\w+):\n(.*?)(?=^\w|\Z)", shown, re.MULTILINE | re.DOTALL))
    assert [*sections] == [
        *("Options", "Reading", "Rollouts", "HDF5", "RLDS", "LeRobot", "Features", "Images", "robomimic", "RDT"),
        "Running",
    ]
    assert re.findall(r"--[\w-]+", sections["RDT"])[:2] == ["--rdt-layout", "--action-convention"]
    assert "--float32" in sections["RLDS"]
    command = cli.get_command(click.Context(cli), "convert")
    assert command is not None
    named = {name for param in command.params if isinstance(param, click.Option) for name in param.opts}
    assert named - {*re.findall(r"(--?[\w-]+)", shown)} == set()
