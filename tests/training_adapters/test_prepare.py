"""`vla-data prepare`: everything that a trainer needs beside its code, made, opened and read back."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import vla_data as vd
from converters.lerobot.source import LerobotSource
from tests import two_arms
from tests.lerobot_sets import Here
from tests.paths import ROOT
from training_adapters.gr00t import gate as gr00t
from training_adapters.openpi.prepare import delta_mask
from training_adapters.rlds_prepare import meanings
from training_adapters.torchrl import prepare as torchrl
from vla_data.cli import cli
from vla_data.core import Feature, Schema
from vla_data.errors import TargetExistsError, UsageError, VerifyError, VlaDataError
from vla_data.formats import load_trainer, open_source
from vla_data.formats.tables import trainers
from vla_data.mixtures import Loader, open_mixture
from vla_data.preparing import Prepared, prepare
from vla_data.statistics.make import make
from vla_data.statistics.trainers import writer
from vla_data.steps import SelectFeatures

LIBERO = ROOT / "tests/data/hdf5/libero_spatial0_demo.hdf5"
NAMES = trainers("prepare")
RLDS = ("octo", "openvla")


GIVEN: dict[str, dict[str, Any]] = {"rdt": {"images": {"shortest": 1}}}
"""What the real episodes need: they are short."""
FORMATS = {"octo": "rlds", "openvla": "rlds", "rdt": "rdt", "rdt2": "rdt2"}


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_arms.write(tmp_path_factory.mktemp("arms") / "in")


def made(out: Path, trainer: str, source: Path = LIBERO, **options: Any) -> Any:
    given = {"engine": Here(), **GIVEN.get(trainer, {}), **options}
    return prepare(open_source(source), (), trainer=trainer, out=out, name="set", **given)


@pytest.mark.parametrize("trainer", NAMES)
def test_dataset_files_and_command_are_there_and_sound(trainer: str, tmp_path: Path, arms: Path) -> None:
    out = tmp_path / "a folder"
    source = arms if trainer == "rdt2" else LIBERO
    done = made(out, trainer, source)
    assert vd.verify(done.folder).ok
    assert done.folder.is_relative_to(out)
    assert load_trainer(trainer, "prepare").FORMAT == FORMATS.get(trainer, "lerobot")
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
        made(out, trainer, source)
    assert made(out, trainer, source, replace=True).files == done.files


@pytest.mark.parametrize("trainer", [name for name in NAMES if name not in FORMATS])
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
    told = json.loads((tmp_path / "opentau.json").read_text())  # without these two OpenTau does not start
    assert told["batch_size"] >= 1
    assert told["use_policy_training_preset"]


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
    done = made(tmp_path, "rlinf", options={"tag": "v7"})
    assert any("reads observation.images.image and observation.images.wrist_image" in fact for fact in done.facts)
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
    if trainer == "octo":  # whose own configuration is of another dataset
        assert "octo_config.py:full,language_conditioned" in done.command[-1]
        assert json.loads((tmp_path / file).read_text())["action_normalization_mask"] == [True] * 6 + [False]


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
        made=ROOT,
        source=open_source(ROOT / "tests/data/rollouts"),
        schema=Schema(features={"action": Feature(dtype="float32", shape=(7,), convention=facts)}, fps=5),
        options={},
        gate={},
    )
    found = meanings(prepared)
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True))


RDTS_MAIN = """
import json
import sys
from data.hdf5_vla_dataset import HDF5VLADataset
told = {name: json.load(open(f"configs/{name}.json")) for name in (
    "dataset_control_freq", "dataset_stat", "dataset_img_keys", "finetune_datasets", "finetune_sample_weights")}
dataset = HDF5VLADataset()
name = dataset.get_dataset_name()
item = dataset.get_item(0)
print(json.dumps({
    "arguments": sys.argv, "name": name, "episodes": len(dataset), "freq": told["dataset_control_freq"],
    "datasets": told["finetune_datasets"], "weights": told["finetune_sample_weights"],
    "mean": len(told["dataset_stat"][name]["state_mean"]), "cameras": sorted(told["dataset_img_keys"]),
    "state": list(item["state"].shape), "actions": list(item["actions"].shape),
    "left": json.load(open("left.json")),
}))
"""


def test_rdts_program_gives_rdt_its_configuration_and_class(tmp_path: Path) -> None:
    """Started in a folder that is laid out as RDT's; its ``main.py`` here asks what RDT's training asks."""
    made(tmp_path / "out", "rdt")
    rdt = tmp_path / "RDT"
    (rdt / "data").mkdir(parents=True)
    (rdt / "configs").mkdir()
    (rdt / "main.py").write_text(RDTS_MAIN)
    (rdt / "left.json").write_text("[1]")
    (rdt / "data/hdf5_vla_dataset.py").write_text("class HDF5VLADataset:\n    pass\n")
    own = {"dataset_control_freq": {"agilex": 25}, "dataset_stat": {"agilex": {}}, "finetune_datasets": ["agilex"]}
    for name, content in own.items():
        (rdt / f"configs/{name}.json").write_text(json.dumps(content))
    program = [sys.executable, str(tmp_path / "out/rdt_finetune.py"), "--load_from_hdf5"]
    for _ in range(2):  # also when its folder is there already
        ran = subprocess.run(program, cwd=rdt, capture_output=True, text=True, timeout=100)
        assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["arguments"] == ["main.py", "--load_from_hdf5"]
    assert (told["name"], told["episodes"], told["mean"], told["left"]) == ("set", 3, 128, [1])
    assert told["freq"] == {"agilex": 25, "set": 20}
    assert (told["datasets"], told["weights"], told["cameras"]) == (["set"], {"set": 100}, ["set"])
    assert (told["state"], told["actions"]) == ([1, 128], [64, 128])
    assert json.loads((rdt / "configs/finetune_datasets.json").read_text()) == [
        "agilex"
    ]  # nothing of RDT is edited


def test_rdt2s_configuration_finds_shards_and_instructions(tmp_path: Path, arms: Path) -> None:
    done = made(tmp_path, "rdt2", arms)
    lines = dict(
        line.strip().split(": ", 1)
        for line in (tmp_path / "rdt2.yaml").read_text().splitlines()[2:]
        if ": " in line
    )
    assert json.loads(lines["shards_dir"]) == str(done.folder / "shards")
    assert Path(json.loads(lines["instruction_path"])).is_file()
    assert done.gate["samples"] == 7
    with pytest.raises(UsageError, match=r"E231|E206|E232|E402"):
        made(tmp_path / "one arm", "rdt2")


@pytest.mark.parametrize(
    ("convention", "space", "gripper"),
    [
        ({}, "unknown", "unknown"),
        (ABSOLUTE, "joint_position", "unknown"),
        ({**POSE, "gripper_control": "position"}, "eef_pose", "continuous"),
        ({**POSE, "kind": "delta", "gripper_control": "direction"}, "eef_delta", "binary"),
        ({**POSE, "kind": "velocity"}, "velocity", "unknown"),
        ({"kind": "delta", "layout": {"joints": [0]}}, "joint_delta", "none"),
        ({"kind": "absolute", "layout": {"joints": [0], "translation": [1, 2, 3]}}, "mixed", "none"),
    ],
)
def test_torchrl_is_told_what_is_declared_alone(convention: Any, space: str, gripper: str) -> None:
    feature = vd.Feature(dtype="float32", shape=(7,), convention=convention)
    assert (torchrl.action_space(feature), torchrl.gripper_mode(feature)) == (space, gripper)


def test_torchrls_metadata_are_the_datasets(tmp_path: Path) -> None:
    made(tmp_path, "torchrl", options={"action_horizon": 4})
    told = json.loads((tmp_path / "metadata.json").read_text())
    source = open_source(LIBERO)
    actions = np.concatenate([source.read(ref).arrays["action"] for ref in source.episodes()])
    np.testing.assert_allclose(told["action_mean"], actions.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(told["action_high"], actions.max(axis=0))
    assert (told["action_dim"], told["action_space"], told["control_frequency_hz"]) == (7, "eef_delta", 20.0)
    assert facts_of(tmp_path / "torchrl_replay.py")["CHUNK"] == 4


def test_what_a_trainer_needs_and_the_dataset_lacks_is_told(tmp_path: Path) -> None:
    rollouts = open_source(ROOT / "tests/data/rollouts")
    with pytest.raises(UsageError, match=r"has no observation\.state") as caught:
        prepare(rollouts, (), trainer="openpi", out=tmp_path, name="set", engine=Here())
    assert caught.value.code == "E206"
    with pytest.raises(UsageError, match="is no name of a dataset"):
        prepare(rollouts, (), trainer="lerobot", out=tmp_path, name="a/b", engine=Here())


LOST = {
    "action": ("action", "action.*"),
    "state": ("observation.state", "observation.ee_pos", "observation.ee_ori", "observation.gripper_states"),
    "images": ("observation.images.*",),
}
SURE = (("openpi", "state"), ("gr00t", "action"))
"""Trainer -> what it surely needs."""
LACKING = [
    pytest.param(trainer, lost, marks=() if (trainer, lost) in SURE else pytest.mark.nightly)
    for trainer in NAMES
    for lost in LOST
]


@pytest.mark.parametrize(("trainer", "lost"), LACKING)
def test_what_a_trainer_refuses_publishes_nothing(trainer: str, lost: str, tmp_path: Path, arms: Path) -> None:
    source, out = open_source(arms if trainer == "rdt2" else LIBERO), tmp_path / "out"
    given = {"trainer": trainer, "out": out, "name": "set", "engine": Here(), **GIVEN.get(trainer, {})}
    try:
        prepare(source, (SelectFeatures(drop=LOST[lost]),), **given)
    except VlaDataError as error:
        assert error.exit_code in (2, 3, 4, 6)
        left = [path for path in out.rglob("*") if path.is_file() and "vla-data" not in str(path.relative_to(out))]
        assert left == []
        assert prepare(source, (), **given).folder.is_dir()  # without --replace: nothing is there
    else:
        assert (out / "COMMAND.md").is_file()
        assert (trainer, lost) not in SURE


def test_a_file_that_is_there_already_publishes_nothing(tmp_path: Path) -> None:
    first = prepare(open_source(LIBERO), (), trainer="openpi", out=tmp_path / "one", name="set", engine=Here())
    there = tmp_path / "two" / first.files[0]
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    with pytest.raises(TargetExistsError):
        prepare(open_source(LIBERO), (), trainer="openpi", out=tmp_path / "two", name="set", engine=Here())
    assert there.read_text() == "mine"
    assert not (tmp_path / "two" / first.folder.relative_to(tmp_path / "one")).exists()


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
