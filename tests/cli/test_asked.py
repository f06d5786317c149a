"""No command asks for a fact that its result does not depend on, of any format; what depends on it is unknown."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

import vla_data as vd
from tests import ript_rollouts, zarr_buffers
from tests.converters.test_contracts import installed
from tests.hdf5_files import robomimic_file
from tests.paths import TESTS
from vla_data.core.unneeded import FACTS, lenient
from vla_data.viewing.beside import Beside
from vla_data.viewing.told import told

DATA = TESTS / "data"


def _libero(folder: Path) -> Path:
    """LIBERO's names without a word of what they mean: no rate, no instruction, no orientation."""
    import h5py

    path = robomimic_file(folder / "a.hdf5", obs__agentview_rgb=np.zeros((5, 8, 10, 3), np.uint8))
    with h5py.File(path, "r+") as file:
        del file["data"].attrs["env_args"]
    return path


def _aloha(folder: Path) -> Path:
    import io

    import h5py
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(2):
        with h5py.File(folder / f"episode_{number}.hdf5", "w") as file:
            file["action"] = rng.normal(size=(12, 14))
            file["observations/qpos"] = rng.normal(size=(12, 14))
            rows = file.create_dataset("observations/images/top", (12,), dtype=h5py.vlen_dtype(np.uint8))
            for row in range(12):
                Image.new("RGB", (16, 16), (row * 20, 0, 255)).save(buffer := io.BytesIO(), "JPEG")
                rows[row] = np.frombuffer(buffer.getvalue(), np.uint8)
    return folder


def _zarr(folder: Path) -> Path:
    arrays = {name: array for name, array in zarr_buffers.arrays().items() if name != "timestamp"}
    return zarr_buffers.write(folder / "a.zarr", arrays)


KINDS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "aloha": (_aloha, ("--fps", "50", "--task", "x", "--channel-order", "rgb")),
    "libero": (
        _libero,
        ("--fps", "50", "--task", "x", "--image-orientation", "none", "--observation-time", "before"),
    ),
    "rlds": (lambda _: DATA / "rlds", ("--fps", "50", "--instruction", "")),
    "zarr": (_zarr, ("--fps", "50", "--task", "x")),
    "ript": (
        lambda folder: ript_rollouts.write(folder / "in", [ript_rollouts.quest(seed) for seed in range(2)]),
        ("--task", "x"),
    ),
}
ALONE: dict[str, tuple[str, ...]] = {"libero": ("--observation-time", "before")}
"""What numbers depend on."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "stats": ("--format", "lerobot", "--json"),
    "quality": ("--json",),
    "inspect": ("--json",),
    "report": ("--dry-run", "--json"),
    "split": ("--json",),
}
OF_FACTS = ("seconds", "jerk", "task", "fps", "undeclared", "problems", "problem_files", "readable", "notes")


def _command(name: str) -> click.Command:
    found: click.Command = import_module(f"vla_data.cli.{name}").command
    return found


def _run(command: str, kind: str, place: Path, *more: str) -> Any:
    address = f"ript:{place}" if kind == "ript" else str(place)
    done = CliRunner().invoke(_command(command), [address, *COMMANDS[command], *more])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_result_is_there_without_what_it_does_not_depend_on(tmp_path: Path, kind: str, command: str) -> None:
    if not installed(kind):
        pytest.skip(f"{kind} is not installed")
    make, all_told = KINDS[kind]
    place = make(tmp_path)
    some = () if command in ("inspect", "report", "split") else ALONE.get(kind, ())
    silent, said = _run(command, kind, place, *some), _run(command, kind, place, *all_told)
    if command == "stats":
        assert silent["datasets"] == said["datasets"] or silent == said
    elif command == "quality":
        for one, other in zip(silent["episodes"], said["episodes"], strict=True):
            drop = {*OF_FACTS, "digest"}
            assert {k: v for k, v in one.items() if k not in drop} == {
                k: v for k, v in other.items() if k not in drop
            }
            assert kind == "ript" or (one["seconds"], one["jerk"]) == (None, None)
            assert other["seconds"] is not None
    elif command == "inspect":
        assert silent["length"] == said["length"]
        assert silent["range"] == said["range"]
        assert kind == "ript" or "fps" not in silent
        assert silent["undeclared"] or silent["problem_files"]
    elif command == "report":
        assert silent["episodes_read"] == said["episodes_read"]
    else:
        assert silent == said


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_equals_itself_before_its_rate_and_instruction_are_declared(tmp_path: Path, kind: str) -> None:
    if not installed(kind):
        pytest.skip(f"{kind} is not installed")
    make, all_told = KINDS[kind]
    place = make(tmp_path)
    address = f"ript:{place}" if kind == "ript" else str(place)
    pictures = [
        word for at, word in enumerate(all_told) if {"--fps", "--task"}.isdisjoint(all_told[at - at % 2 : at + 1])
    ]
    done = CliRunner().invoke(_command("diff"), [address, address, *pictures, "--json"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_shows_what_nobody_has_declared(tmp_path: Path, kind: str) -> None:
    if not installed(kind):
        pytest.skip(f"{kind} is not installed")
    place = KINDS[kind][0](tmp_path)
    source = lenient(vd.open_source(f"ript:{place}" if kind == "ript" else place), FACTS)
    episode = source.read(source.episodes()[0])
    shown = told(0, episode, source.schema(episode), Beside(records={}, by_id={}))
    assert shown["fps"] == (20 if kind == "ript" else None)
    assert shown["steps"] == len(episode) > 0
