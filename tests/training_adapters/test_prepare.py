"""`vla-data prepare`: everything that a trainer needs beside its code, made, opened and read back."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import vla_data as vd
from converters.lerobot.source import LerobotSource
from tests.lerobot_sets import Here
from tests.paths import ROOT
from tests.stock_lerobot import PYTHONS, needed
from training_adapters.gr00t import gate as gr00t
from training_adapters.openpi.prepare import delta_mask
from training_adapters.rlds_prepare import meanings
from vla_data.cli import cli
from vla_data.core import Feature, Schema
from vla_data.errors import TargetExistsError, UsageError, VerifyError
from vla_data.formats import load_trainer, open_source
from vla_data.formats.tables import trainers
from vla_data.mixtures import Loader, open_mixture
from vla_data.preparing import Prepared, prepare
from vla_data.statistics.make import make
from vla_data.statistics.trainers import writer

LIBERO = ROOT / "tests/data/hdf5/libero_spatial0_demo.hdf5"
NAMES = trainers("prepare")
RLDS = ("octo", "openvla")


def made(out: Path, trainer: str, **options: Any) -> Any:
    return prepare(open_source(LIBERO), (), trainer=trainer, out=out, name="set", **{"engine": Here(), **options})


@pytest.mark.parametrize("trainer", NAMES)
def test_dataset_files_and_command_are_there_and_sound(trainer: str, tmp_path: Path) -> None:
    out = tmp_path / "a folder"
    done = made(out, trainer)
    assert vd.verify(done.folder).ok
    assert done.folder.is_relative_to(out)
    assert load_trainer(trainer, "prepare").FORMAT == ("rlds" if trainer in RLDS else "lerobot")
    told = (out / "COMMAND.md").read_text()
    for line in done.command:
        assert line in told
        shlex.split(line, comments=True)
    assert any(str(out) in word for line in done.command for word in shlex.split(line, comments=True))
    for file in done.files:
        text = (out / file).read_text()
        if file.endswith(".py"):
            compile(text, file, "exec")
        elif file.endswith(".json"):
            json.loads(text)
    with pytest.raises(TargetExistsError, match="E411"):
        made(out, trainer)
    assert made(out, trainer, replace=True).files == done.files


@pytest.mark.parametrize("trainer", [name for name in NAMES if name not in RLDS])
def test_actions_and_prompts_are_the_sources(trainer: str, tmp_path: Path) -> None:
    done = made(tmp_path, trainer)
    source, found = open_source(LIBERO), LerobotSource(root=done.folder)
    for ref, other in zip(source.episodes(), found.episodes(), strict=True):
        want, episode = source.read(ref), found.read(other)
        assert episode.task == want.task
        for name in ("action", "observation.state"):
            np.testing.assert_array_equal(episode.arrays[name], want.arrays[name])


def facts_of(path: Path) -> dict[str, Any]:
    """The constants of a generated file."""
    tree = ast.parse(path.read_text())
    out = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                out[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return out


def test_openpi_finds_dataset_statistics_and_keys(tmp_path: Path) -> None:
    done = made(tmp_path, "openpi", options={"action_horizon": 10})
    facts = facts_of(tmp_path / "openpi_set.py")
    assert "import openpi_set" in (tmp_path / "openpi_train.py").read_text()
    assert done.folder == tmp_path / "lerobot" / facts["REPO_ID"]
    assert facts["ACTION_HORIZON"] == 10
    assert facts["DELTA_MASK"] == []  # LIBERO's actions are deltas: a delta of them is what must never be
    assert any("deltas already" in fact for fact in done.facts)
    source = LerobotSource(root=done.folder)
    schema = source.schema(source.read(source.episodes()[0]))
    for key, name in facts["REPACK"].items():
        assert name in schema.features or name == "prompt", key
    assert facts["CAMERAS"] == ["base_0_rgb", "left_wrist_0_rgb"]
    stats = tmp_path / "assets" / facts["NAME"] / facts["REPO_ID"] / "norm_stats.json"
    want = make({"set": open_source(LIBERO)}, writer("openpi", action_horizon=10))
    assert json.loads(stats.read_text()) == want.document


ABSOLUTE = {"kind": "absolute", "layout": {"joints": [0, 1, 2], "gripper": [3]}, "joint_unit": "rad"}
POSE = {
    "kind": "absolute",
    "layout": {"translation": [0, 1, 2], "rotation": [3, 4, 5], "gripper": [6]},
    "translation_unit": "m",
    "frame": "world",
}


@pytest.mark.parametrize(
    ("action", "state", "mask", "words"),
    [
        (ABSOLUTE, ABSOLUTE, (True, True, True, False), "elements 0, 1, 2"),
        (POSE, POSE, (True, True, True, False, False, False, False), "elements 0, 1, 2"),
        ({**ABSOLUTE, "kind": "delta"}, ABSOLUTE, (), "deltas already"),
        ({**ABSOLUTE, "kind": "velocity"}, ABSOLUTE, (), "deltas already"),
        ({}, ABSOLUTE, (), "nobody declared"),
        (ABSOLUTE, {}, (), "no part"),
        (ABSOLUTE, {**ABSOLUTE, "joint_unit": "deg"}, (), "no part"),
        (ABSOLUTE, {**ABSOLUTE, "layout": {"joints": [1, 2, 3]}}, (), "no part"),
        (ABSOLUTE, {**ABSOLUTE, "kind": "delta"}, (), "no part"),
        (POSE, {**POSE, "frame": "robot_base"}, (), "no part"),
        ({**POSE, "frame": "undeclared"}, {**POSE, "frame": "undeclared"}, (), "no part"),
    ],
)
def test_a_state_is_subtracted_where_conventions_allow_it_alone(
    action: Any, state: Any, mask: tuple[bool, ...], words: str
) -> None:
    size = len(mask) or 7
    features = [vd.Feature(dtype="float32", shape=(size,), convention=c) for c in (action, state)]
    found, why = delta_mask(*features)
    assert found == mask
    assert words in why


def test_opentaus_mixture_gives_batches_of_the_dataset(tmp_path: Path) -> None:
    done = made(tmp_path, "opentau", options={"action_horizon": 4})
    mixture = open_mixture(tmp_path / "opentau.json")
    batch = next(iter(Loader(mixture, batch_size=4)))
    assert batch["action"].shape == (4, 4, 32)
    source = open_source(LIBERO)
    episodes = [source.read(ref) for ref in source.episodes()]
    for row in range(4):
        episode = episodes[int(batch["episode_index"][row])]
        want = episode.arrays["action"][int(batch["frame_index"][row])]
        np.testing.assert_allclose(batch["action"][row, 0, :7], want, rtol=1e-6)
        assert batch["task"][row] == episode.task
    assert done.gate == {}


def test_gr00t_reads_the_parts_that_are_declared(tmp_path: Path) -> None:
    done = made(tmp_path, "gr00t")
    facts = facts_of(tmp_path / "gr00t_config.py")
    parts = json.loads((done.folder / "meta/modality.json").read_text())
    assert facts["ACTION"] == list(parts["action"]) == ["translation", "rotation", "gripper"]
    assert facts["VIDEO"] == list(parts["video"])
    assert facts["RELATIVE"] == []
    stats = json.loads((done.folder / "meta/stats.json").read_text())
    for kind, column in (("action", "action"), ("state", "observation.state")):
        for part in parts[kind].values():
            assert part["end"] <= len(stats[column]["mean"])
            assert part["original_key"] == column
    assert set(stats["action"]) == {"mean", "std", "min", "max", "q01", "q99"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda parts: parts["action"]["gripper"].update(end=9), "is 6:9 of the 7 numbers"),
        (lambda parts: parts["state"].clear(), "has no parts of state"),
        (lambda parts: parts["video"].clear(), "has no video"),
        (lambda parts: parts["video"].update(top={"original_key": "observation.images.top"}), "which is no video"),
        (
            lambda parts: parts["action"].update(hand={"start": 0, "end": 1, "original_key": "hand"}),
            "does not have",
        ),
    ],
)
def test_the_gate_of_gr00t_tells_what_does_not_fit(change: Any, words: str, tmp_path: Path) -> None:
    folder = made(tmp_path, "gr00t").folder
    path = folder / "meta/modality.json"
    parts = json.loads(path.read_text())
    change(parts)
    path.write_text(json.dumps(parts))
    with pytest.raises(VerifyError, match=words):
        gr00t.read_back(folder)


def test_rlinf_gets_the_block_with_the_tag(tmp_path: Path) -> None:
    made(tmp_path, "rlinf", options={"tag": "v7"})
    text = (tmp_path / "rlinf_data.yaml").read_text()
    assert f'- dataset_path: "{tmp_path}/set"' in text
    assert "advantage_tag: v7" in text


@pytest.mark.parametrize("trainer", RLDS)
def test_rlds_trainers_get_the_entry_that_the_gate_saw(trainer: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_datasets")
    done = made(tmp_path, trainer)
    assert done.gate["config"]["image_obs_keys"]["wrist"] == "eye_in_hand_rgb"
    file = {"openvla": "openvla_finetune.py", "octo": "dataset_kwargs.json"}[trainer]
    assert "eye_in_hand_rgb" in (tmp_path / file).read_text()
    stats = json.loads((tmp_path / "dataset_statistics.json").read_text())
    assert stats["set"]["num_transitions"] == 29
    assert any("the gripper is -1 open and 1 closed" in fact for fact in done.facts)  # as LIBERO has it


DELTA: dict[str, Any] = {
    "layout": {"translation": [0, 1, 2], "rotation": [3, 4, 5], "gripper": [6]},
    "kind": "delta",
    "gripper_open": 1.0,
    "gripper_closed": 0.0,
}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (DELTA, []),
        (DELTA | {"gripper_open": -1.0, "gripper_closed": 1.0}, ["the gripper is -1 open and 1 closed"]),
        (DELTA | {"gripper_open": 0.0, "gripper_closed": 1.0}, ["the gripper is 0 open and 1 closed"]),
        (DELTA | {"gripper_open": None, "gripper_closed": None}, ["the gripper is undeclared"]),
        (DELTA | {"kind": "absolute"}, ["action is of kind absolute"]),
        (DELTA | {"layout": {"joints": [0, 1, 2, 3, 4, 5], "gripper": [6]}}, ["action is joints, gripper"]),
        ({}, ["what action means is undeclared"]),
    ],
)
def test_actions_of_other_meanings_than_the_trainers_own_are_told(facts: dict[str, Any], said: list[str]) -> None:
    prepared = Prepared(
        name="set",
        out=ROOT,
        folder=ROOT,
        source=open_source(ROOT / "tests/data/rollouts"),
        schema=Schema(features={"action": Feature(dtype="float32", shape=(7,), convention=facts)}, fps=5),
        options={},
        gate={},
    )
    found = meanings(prepared)
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True))


def test_what_a_trainer_needs_and_the_dataset_lacks_is_told(tmp_path: Path) -> None:
    rollouts = open_source(ROOT / "tests/data/rollouts")
    with pytest.raises(UsageError, match=r"has no observation\.state") as caught:
        prepare(rollouts, (), trainer="openpi", out=tmp_path, name="set", engine=Here())
    assert caught.value.code == "E206"
    with pytest.raises(UsageError, match="is no name of a dataset"):
        prepare(rollouts, (), trainer="lerobot", out=tmp_path, name="a/b", engine=Here())


def test_command_line(tmp_path: Path) -> None:
    words = ["prepare", str(LIBERO), str(tmp_path / "out"), "--for", "opentau"]
    dry = CliRunner().invoke(cli, [*words, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(cli, [*words, "--name", "bowl", "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["dataset"] == str(tmp_path / "out/bowl")
    assert facts["command"][-1].startswith("opentau-train")
    wrong = CliRunner().invoke(cli, [*words, "--version", "v3.0"])
    assert wrong.exit_code != 0


SMALL = [
    *(
        "--steps=2",
        "--batch_size=2",
        "--num_workers=0",
        "--log_freq=1",
        "--eval_freq=0",
        "--save_checkpoint=false",
    ),
    *("--policy.device=cpu", "--policy.pretrained_backbone_weights=null", "--policy.dim_model=64"),
    *("--policy.n_heads=4", "--policy.dim_feedforward=64", "--policy.chunk_size=8", "--policy.n_action_steps=8"),
    *("--wandb.enable=false", "--dataset.video_backend=pyav"),
]
"""What makes the policy small, and its backbone random."""


@needed
@pytest.mark.nightly
def test_the_command_for_lerobot_trains(tmp_path: Path) -> None:
    done = made(tmp_path, "lerobot")
    words = shlex.split(done.command[-1])
    words[0] = str(Path(PYTHONS[0]).parent / words[0])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    ran = subprocess.run([*words, *SMALL], capture_output=True, text=True, timeout=280, env=environment)
    assert ran.returncode == 0, ran.stderr[-3000:]
    losses = [float(found) for found in re.findall(r"step:\d+ .*?loss:([\d.]+)", ran.stdout + ran.stderr)]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
