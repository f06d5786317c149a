"""Whatever `merge` refuses names the source and the key of the mapping that mends it; with that it is merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import vla_data as vd
from tests.hdf5_files import robomimic_file
from tests.paths import TESTS
from vla_data.cli.merge import command as merge
from vla_data.errors import DataError, UsageError
from vla_data.selection.keys import keys_of, of_source

BRIDGE = TESTS / "data/rlds"


def _plain(path: Path, **changed: Any) -> Path:
    return robomimic_file(path / "a.h5", **changed)


def _silent(path: Path) -> Path:
    file = _plain(path)
    with h5py.File(file, "r+") as opened:
        opened["data"].attrs["env_args"] = json.dumps({"env_name": "Toy"})
    return file


def _still(path: Path) -> Path:
    file = _plain(path, obs__agentview_rgb=np.zeros((5, 8, 10, 3), np.uint8))
    return file


WAYS: dict[str, tuple[Callable[[Path], Path], str, str, str]] = {
    "an instruction": (_plain, "E211", "open.task", ""),
    "a rate and an instruction": (_silent, "E231", "open.fps, open.task", "open.fps = 10\n"),
    "an orientation": (
        _still,
        "E231",
        "open.image_orientation",
        'open.image_orientation = "none"\nkeep = ["action", "observation.eef"]\n',
    ),
    "a part that can't be read": (
        lambda path: _plain(path, obs__bad=np.zeros((2, 2))),
        "E204",
        "open.leave_out",
        'open.leave_out = ["obs/bad"]\n',
    ),
}
GOOD = '[[source]]\nname = "good"\nopen.task = "lift"\n'


def _run(tmp_path: Path, places: list[Path], text: str, *words: str) -> Any:
    (tmp_path / "map.toml").write_text(text)
    command = [str(tmp_path / "out"), *map(str, places), "--map", str(tmp_path / "map.toml"), *words]
    return CliRunner().invoke(merge, command)


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_what_a_source_lacks_is_a_key_of_its_table(tmp_path: Path, way: str, dry: bool) -> None:
    make, code, keys, mended = WAYS[way]
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    places = [_plain(tmp_path / "good"), make(tmp_path / "bad")]
    good = GOOD if way != "an orientation" else f'{GOOD}keep = ["action", "observation.eef"]\n'
    task = "" if "open.task" in keys else 'open.task = "lift"\n'
    words = ("--dry-run",) if dry else ("--max-bad", "0")
    refused = _run(tmp_path, places, f'{GOOD}[[source]]\nname = "bad"\n{task}', *words)
    told = f"{refused.output} {refused.exception}"
    assert code in told
    assert f"in the mapping (--map): {keys} of the [[source]] bad" in " ".join(told.split())
    task = 'open.task = "lift"\n'
    done = _run(tmp_path, places, f'{good}[[source]]\nname = "bad"\n{task}{mended}')
    assert done.exit_code == 0, done.output
    out = vd.open_source(tmp_path / "out")
    assert [out.read(ref).meta.origin["id"].split("/")[0] for ref in out.episodes()] == ["good", "bad"]


@pytest.mark.parametrize(
    ("table", "code", "says"),
    [
        ('actions = "physical"\n', "E231", r"bad: .*\(--map\): declare of the \[\[source\]\] bad"),
        ("open.sped = 1\n", "E001", r"bad: .*--sped is not an option"),
        ("renam = {}\n", "E001", r"bad: .* has renam"),
        ('open.layout = "none"\n', "E001", "bad: "),
    ],
)
def test_a_table_that_can_not_be_names_its_source(tmp_path: Path, table: str, code: str, says: str) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    places = [_plain(tmp_path / "good"), _plain(tmp_path / "bad")]
    refused = _run(tmp_path, places, f'{GOOD}[[source]]\nname = "bad"\nopen.task = "lift"\n{table}')
    assert isinstance(refused.exception, UsageError)
    assert refused.exception.code in code.split("|")
    with pytest.raises(UsageError, match=says):
        raise refused.exception


def test_a_rate_that_only_the_schema_asks_for_is_a_key_too(tmp_path: Path) -> None:
    refused = _run(tmp_path, [BRIDGE, BRIDGE], '[[source]]\nname = "one"\n[[source]]\nname = "two"\n')
    assert "of the [[source]] one" in str(refused.exception)
    assert "open.fps" in str(refused.exception)


@pytest.mark.parametrize(
    ("message", "keys"),
    [
        ("declare with --fps NUMBER --task TEXT", ["open.fps", "open.task"]),
        ("--leave-out obs/a --leave-out obs/b leaves them out", ["open.leave_out"]),
        ("--declare action:KEY=VALUE, or --resample 5", ["declare", "fps"]),
        ("nothing of a command line, -- or -x", []),
        ("--episodes leaves them out", []),
    ],
)
def test_options_are_keys(message: str, keys: list[str]) -> None:
    assert keys_of(message) == keys
    error = DataError("E231", message)
    error.frames = 7
    with pytest.raises(DataError) as told, of_source("here"):
        raise error
    assert told.value.frames == 7
    assert told.value.message.startswith("here: ")
    assert ("[[source]] here" in told.value.message) is bool(keys)
