"""`vla-data inspect`: every format, no traceback, 80 columns, right counts; and the audit of the rate."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import vla_data as vd
from converters.lerobot.source import LerobotSource
from tests.hdf5_files import ALOHA, LIBERO, MANISKILL, ROBOMIMIC
from tests.paths import ROOT, SHARED, TESTS
from vla_data.cli.inspect import command
from vla_data.errors import DataError
from vla_data.media.video_settings import VideoSettings
from vla_data.report.sparks import spark

ROLLOUTS = TESTS / "data/rollouts"
BRIDGE = TESTS / "data/rlds/bridge_dataset"
GROOT = SHARED / "lerobot_v20_groot"

PLACES: dict[str, tuple[Path, list[str], dict[str, Any]]] = {
    "rollouts": (ROLLOUTS, [], {"format": "ppo_rollout", "episodes": 3, "steps": 105, "fps": 5, "solved": 2}),
    "libero": (LIBERO, [], {"format": "hdf5", "episodes": 3, "steps": 29, "fps": 20}),
    "robomimic": (ROBOMIMIC, ["--task", "lift"], {"format": "hdf5", "episodes": 2, "steps": 20, "fps": 20}),
    "maniskill": (
        MANISKILL,
        ["--task", "pick", "--fps", "20"],
        {"format": "hdf5", "episodes": 2, "steps": 20, "fps": 20, "solved": 2},
    ),
    "aloha": (
        ALOHA,
        ["--task", "hand over", "--fps", "50", "--channel-order", "rgb"],
        {"format": "hdf5", "episodes": 1, "steps": 6, "fps": 50},
    ),
    "rlds": (BRIDGE, ["--fps", "5"], {"format": "rlds", "episodes": 3, "steps": 18, "fps": 5}),
}
"""Kind -> real data, what must be declared, and what is in them by their README files."""


def inspect(*words: str | Path) -> tuple[str, dict[str, Any]]:
    """What a person is shown and what a machine is told."""
    done = CliRunner().invoke(command, [str(word) for word in words])
    told = CliRunner().invoke(command, [*(str(word) for word in words), "--json"])
    facts: dict[str, Any] = json.loads(told.output)
    lacks = {problem["code"] for problem in facts["problem_files"]} <= {"E211", "E231"}
    code = 0 if facts["readable"] or (lacks and facts["problem_files"]) else 4
    assert (done.exit_code, told.exit_code) == (code, code), done.output
    return done.output, facts


UNDECLARED: dict[str, tuple[Path, list[str], str]] = {
    "robomimic": (ROBOMIMIC, ["fps"], "--task TEXT"),
    "maniskill": (MANISKILL, [], "--fps NUMBER --task TEXT"),
    "rlds": (BRIDGE, [], "--fps"),
}
"""Kind -> real data of which nobody has declared the rate or the instruction, what they say all the same, and how
to declare the rest."""


@pytest.mark.parametrize("kind", UNDECLARED)
def test_what_is_there_is_told_before_anything_is_declared(kind: str) -> None:
    path, known, way = UNDECLARED[kind]
    text, facts = inspect(path)
    assert_fits(text)
    _, full = inspect(path, *PLACES[kind][1])
    assert facts["features"].keys() == full["features"].keys()
    assert facts["length"] == full["length"]
    assert ("fps" in facts, "duration_s" in facts) == (bool(known), bool(known))
    assert way in " ".join(text.split())
    assert "nobody declared" not in text
    assert not any("control_rate" in feature["convention"] for feature in facts["features"].values()) or known


def assert_fits(text: str) -> None:
    assert "Traceback" not in text
    for line in text.splitlines():
        width = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)
        assert width <= 80 or " " not in line.strip(), line  # one word may be longer than a line
        assert line.isprintable(), line


@pytest.mark.parametrize("kind", PLACES)
def test_real_data_of_every_format(kind: str) -> None:
    path, declared, want = PLACES[kind]
    text, facts = inspect(path, *declared)
    assert_fits(text)
    length = facts["length"]
    found = {"format": facts["format"], "episodes": facts["episodes"], "fps": facts["fps"]}
    found["steps"] = round(length["mean"] * facts["readable"])
    assert {**found, **({"solved": facts["with_success"]} if "solved" in want else {})} == want
    assert ("with_success" in facts) == ("solved" in want)
    assert facts["readable"] == facts["episodes_read"] == want["episodes"]
    assert facts["duration_s"] == pytest.approx(want["steps"] / want["fps"])
    assert facts["kinds"] == 1
    assert facts["problem_files"] == []
    assert f"{want['episodes']:,}, {want['episodes']:,} readable" in text
    source = vd.open_source(path, **options(declared))
    episode = source.read(source.episodes()[0])
    assert set(facts["features"]) == {*source.schema(episode).features}
    low = np.min([source.read(ref).arrays["action"].min(axis=0) for ref in source.episodes()], axis=0)
    assert facts["range"]["action"]["min"] == low.tolist()


def options(words: list[str]) -> dict[str, Any]:
    pairs = dict(zip(words[::2], words[1::2], strict=True))
    given: dict[str, Any] = {key.removeprefix("--").replace("-", "_"): value for key, value in pairs.items()}
    return given | ({"fps": float(given["fps"])} if "fps" in given else {})


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Datasets of ours, of the same rollouts."""
    root = tmp_path_factory.mktemp("inspect")
    sinks: dict[str, dict[str, Any]] = {
        "lerobot": {},
        "video": {"format": "lerobot", "video": VideoSettings(codec="h264")},
        "rlds": {"name": "inspected", "step_fields": "rlds"},
        "robomimic": {},
    }
    for name, kwargs in sinks.items():
        sink = vd.open_sink(root / name, **{"format": name, **kwargs})
        vd.run(vd.open_source(ROLLOUTS), (), sink, workers=1)
    return {name: root / name for name in sinks}


@pytest.mark.parametrize("name", ["lerobot", "video", "rlds", "robomimic"])
def test_what_we_write_is_told_with_how_it_was_made(sets: dict[str, Path], name: str) -> None:
    text, facts = inspect(sets[name])
    assert_fits(text)
    assert facts["counts"]["kept"] == round(facts["length"]["mean"] * 3) == 105
    assert (facts["episodes"], facts["readable"], facts["fps"], facts["kinds"]) == (3, 3, 5, 1)
    assert facts["undeclared"] == ["action: rotation"]
    assert facts["provenance"]["source"]["type"] == "PpoRolloutSource"
    assert "Made by" in text
    assert facts["content_sha256"] in text


def test_robot_is_a_name_and_the_first_rules_are_told_after_any_conversions(tmp_path: Path) -> None:
    text, facts = inspect(LIBERO)
    assert facts["robot"] == "panda"
    assert "Robot         panda" in text
    vd.run(vd.open_source(LIBERO), (), vd.open_sink(tmp_path / "le", images="png"), workers=1)
    vd.run(vd.open_source(tmp_path / "le"), (), vd.open_sink(tmp_path / "ro", format="robomimic"), workers=1)
    vd.run(vd.open_source(LIBERO), (), vd.open_sink(tmp_path / "di", format="robomimic"), workers=1)
    for name in ("le", "ro", "di"):
        text, facts = inspect(tmp_path / name)
        assert_fits(text)
        assert facts["origin"]["image_orientation vflip (macros_image_convention)"] == 3
        assert facts["origin"]["observation_time after (joints_in_states)"] == 3
        assert ("first_action_dropped" in facts["origin"]) == (name == "di")
        assert "Origin" in text
    assert "Made by       Hdf5Source(" in text
    assert "root" not in text.rpartition("Made by")[2]
    assert "=None" not in text


@pytest.mark.skipif(not GROOT.exists(), reason="the whole recordings are not here")
def test_a_dataset_whose_metadata_lies_is_told_as_it_is() -> None:
    text, facts = inspect(GROOT)
    assert_fits(text)
    assert (facts["format"], facts["episodes"], facts["readable"]) == ("lerobot", 5, 5)
    assert facts["fps_audit"]["agree"]


def test_a_sample_is_called_one_and_all_is_all(tmp_path: Path) -> None:
    for number in range(70):
        (tmp_path / f"{number:02d}.npz").write_bytes(b"no rollout")
    text, facts = inspect(tmp_path)
    assert (facts["episodes"], facts["episodes_read"], facts["readable"]) == (70, 64, 0)
    assert "64 of them were read" in text
    assert inspect(tmp_path, "--all")[1]["episodes_read"] == 70


def test_bad_episodes_are_counted_and_hostile_names_are_inert(tmp_path: Path) -> None:
    shutil.copy(ROLLOUTS / "PutCarrotOnPlate_drop_ep4.npz", tmp_path / "good.npz")
    (tmp_path / "\x1b]0;owned\x07\u202e.npz").write_bytes(b"no rollout")
    (tmp_path / f"{'long name ' * 20}.npz").write_bytes(b"no rollout")
    text, facts = inspect(tmp_path)
    assert_fits(text)
    assert (facts["episodes"], facts["readable"]) == (3, 1)
    assert sum(facts["problems"].values()) == 2
    assert "\x1b" not in text


def test_only_the_episodes_that_are_asked_for() -> None:
    _, facts = inspect(ROLLOUTS, "--episodes", "0,2")
    assert (facts["episodes"], facts["length"]["min"], facts["length"]["max"]) == (2, 32, 40)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["/nowhere/at/all"], "E003"),
        ([str(ROLLOUTS), "--layout", "libero"], "E001"),
        ([str(ROLLOUTS), "--episodes", "7"], "E007"),
        ([f"lerobot:{ROLLOUTS}"], "E"),
    ],
)
def test_what_can_not_be_is_one_line(words: list[str], code: str) -> None:
    done = CliRunner().invoke(command, words)
    assert isinstance(done.exception, vd.VlaDataError), done.output
    assert done.exception.code.startswith(code)
    assert "\n" not in str(done.exception)


# -- the rate ---------------------------------------------------------------------------------------------


def retimed(root: Path, target: Path, rate: float, *, episodes: tuple[int, ...] = (0, 1, 2)) -> Path:
    """A copy whose clock ran at another rate during these episodes."""
    shutil.copytree(root, target)
    (file,) = (target / "data").rglob("*.parquet")
    table = pq.read_table(file)
    time = table["timestamp"].to_numpy().copy()
    chosen = np.isin(table["episode_index"].to_numpy(), episodes)
    time[chosen] = (table["frame_index"].to_numpy()[chosen] / rate).astype(np.float32)
    at = table.column_names.index("timestamp")
    pq.write_table(table.set_column(at, "timestamp", pa.array(time)), file)
    return target


def test_recorded_times_agree_with_the_rate(sets: dict[str, Path]) -> None:
    text, facts = inspect(sets["lerobot"])
    audit = facts["fps_audit"]
    assert (audit["declared"], audit["recorded"], audit["agree"]) == (5, 5, True)
    assert audit["jitter_ms"] < 1
    assert "5 steps per second, as recorded" in text


def test_no_times_are_said_to_be_none(sets: dict[str, Path]) -> None:
    text, facts = inspect(sets["rlds"])
    assert facts["fps_audit"] == {"declared": 5, "recorded": None}
    assert "no times to compare with" in text


def test_a_label_that_the_times_contradict_is_told(sets: dict[str, Path], tmp_path: Path) -> None:
    """Two of three episodes ran at 10 Hz: they can't be read as 5 Hz, and the audit says what they are."""
    root = retimed(sets["lerobot"], tmp_path / "set", 10, episodes=(0, 2))
    text, facts = inspect(root)
    assert facts["fps_audit"]["declared"] == 5
    assert (facts["fps_audit"]["recorded"], facts["fps_audit"]["agree"]) == (10, False)
    assert "5 steps per second declared, but the recorded times say 10" in text
    assert facts["problems"] == {"E221 timestamps": 2}
    assert facts["readable"] == 1


def test_a_wrong_label_of_the_whole_dataset_is_told(sets: dict[str, Path], tmp_path: Path) -> None:
    root = retimed(sets["lerobot"], tmp_path / "set", 15)
    text, facts = inspect(root)
    assert_fits(text)
    assert facts["readable"] == 0
    assert facts["fps_audit"]["recorded"] == 15
    assert "the recorded times say 15 steps per second" in text
    chosen = inspect(root, "--episodes", "1")[1]
    assert chosen["fps_audit"]["recorded"] == 15


def test_time_steps_are_those_of_the_column(sets: dict[str, Path]) -> None:
    source = LerobotSource(root=sets["lerobot"])
    refs = source.episodes()
    table = pq.read_table(sets["lerobot"] / "data")
    want = []
    for number in (0, 2):
        rows = table["episode_index"].to_numpy() == number
        want.append(np.diff(table["timestamp"].to_numpy()[rows].astype(np.float64)))
    assert np.array_equal(source.time_steps([refs[0], refs[2]]), np.concatenate(want))
    assert len(source.time_steps([])) == 0


def test_no_column_of_times_and_times_that_are_none_say_nothing(sets: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(sets["lerobot"], root)
    (file,) = (root / "data").rglob("*.parquet")
    table = pq.read_table(file)
    source = LerobotSource(root=root)
    pq.write_table(table.drop_columns(["timestamp"]), file)
    assert len(source.time_steps(source.episodes())) == 0
    nothing = pa.array(np.full(len(table), np.nan, np.float32))
    pq.write_table(table.set_column(table.column_names.index("timestamp"), "timestamp", nothing), file)
    assert len(source.time_steps(source.episodes())) == 0
    file.write_bytes(file.read_bytes()[:-100])
    assert len(source.time_steps(source.episodes())) == 0


def test_a_video_of_another_rate_is_refused(sets: dict[str, Path], tmp_path: Path) -> None:
    """Frames are found by their times in the stream, and those of rows name none in one of half the rate."""
    root = retimed(sets["video"], tmp_path / "set", 10)
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fps": 10}))
    source = LerobotSource(root=root)
    with pytest.raises(DataError, match="has no frame at timestamp") as caught:
        source.read(source.episodes()[0])
    assert caught.value.code == "E221"
    text, facts = inspect(root)
    assert_fits(text)
    assert facts["problems"] == {"E221 timestamps": 3}


def test_a_terminal_is_shown_how_numbers_are_spread() -> None:
    """And a pipe is not, as the other tests see: what is printed there is for programs, too."""
    words = [sys.executable, "-m", "vla_data", "inspect", str(ROLLOUTS)]
    near, far = pty.openpty()
    subprocess.run(words, stdout=far, check=True, env={**os.environ, "PYTHONUTF8": "1", "PYTHONPATH": str(ROOT)})
    os.close(far)
    told = b""
    with contextlib.suppress(OSError):
        while piece := os.read(near, 65536):
            told += piece
    os.close(near)
    lines = told.decode().splitlines()
    assert max(map(len, lines)) <= 80
    (line,) = [line for line in lines if line.startswith("    gripper ")]
    assert line.split()[1:] == ["▄", "█", "-1", "to", "1", "open", "1,", "closed", "-1"]
    (line,) = [line for line in lines if line.startswith("    x ")]
    assert line.split()[-4:] == ["-0.0309", "to", "0.0234", "m"]


def test_a_spark_says_where_most_numbers_are() -> None:
    assert spark(np.array([0.0, 0, 0, 1])) == "█" + " " * 14 + "▃"
    assert spark(np.full(3, 2.5)) == " " * 8 + "█" + " " * 7
