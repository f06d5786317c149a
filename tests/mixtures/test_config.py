"""Configurations: ours and RECAP's, what is refused, and the command line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import vla_data as vd
from tests.paths import TESTS
from vla_data.cli import cli
from vla_data.errors import UsageError
from vla_data.mixtures import Contract, load, open_mixture, parse

ROLLOUTS = TESTS / "data/rollouts"

OURS: dict[str, Any] = {
    "contract": {"cameras": ["primary"], "image_size": [32, 32], "action_dim": 8, "chunk": 3},
    "datasets": [{"root": str(ROLLOUTS), "state": []}],
}
RECAP: dict[str, Any] = {
    "dataset_mixture": {
        "datasets": [
            {
                "repo_id": "lab/a",
                "root": "ROOT",
                "episodes": [0, 2],
                "data_features_name_mapping": {
                    "camera0": "observation.images.primary",
                    "state": "action",
                    "actions": "action",
                    "prompt": "task",
                },
                "control_mode": "ee",
                "use_delta_joint_actions": False,
            },
            {
                "repo_id": "lab/b",
                "root": "ROOT",
                "data_features_name_mapping": {"camera1": "observation.images.primary", "actions": "action"},
            },
        ],
        "weights": [1.0, 3.0],
        "action_freq": 10.0,
        "image_resample_strategy": "nearest",
        "vector_resample_strategy": "linear",
        "val_split_ratio": 0.05,
        "n_obs_history": 2,
        "history_interval": 3,
        "speed_drop_prob": 0.05,
    },
    "policy": {"type": "pi05", "chunk_size": 10},
    "num_cams": 2,
    "action_chunk": 10,
    "resolution": [32, 48],
    "seed": 7,
    "batch_size": 8,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recap") / "set"
    vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(root, images="jpeg"))
    return root


@pytest.fixture
def recap(dataset: Path) -> dict[str, Any]:
    return json.loads(json.dumps(RECAP).replace("ROOT", str(dataset)))


def test_toml_and_json_are_one(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps({**OURS, "weights": [2]}))
    (tmp_path / "m.toml").write_text(
        'weights = [2]\n[contract]\ncameras = ["primary"]\nimage_size = [32, 32]\naction_dim = 8\nchunk = 3\n'
        f"[[datasets]]\nroot = '{ROLLOUTS}'\nstate = []\n"
    )
    assert load(tmp_path / "m.json") == load(tmp_path / "m.toml")


def test_recap_configuration_is_read_as_it_is(recap: dict[str, Any]) -> None:
    config = parse(recap)
    assert config.contract == Contract(
        cameras=("camera0", "camera1"),
        image_size=(32, 48),
        state_dim=32,
        action_dim=32,
        chunk=10,
        history=2,
        history_interval=3,
        action_freq=10.0,
        resample="rows",
        vector_resample_strategy="linear",
    )
    assert [entry.name for entry in config.datasets] == ["lab/a", "lab/b"]
    assert config.datasets[0].episodes == (0, 2)
    assert (config.weights, config.seed, config.order) == ((1.0, 3.0), 7, "draw")
    assert config.notes == ("datasets.control_mode", "speed_drop_prob", "val_split_ratio")


def test_recap_configuration_gives_opentaus_samples(recap: dict[str, Any], dataset: Path) -> None:
    """5 Hz rows at 10 Hz, linear: every other action is the mean of its neighbours; A.5's probabilities."""
    mixture = open_mixture(recap)
    assert mixture.sampling.shares == (0.25, 0.75)
    assert len(mixture.sampling) == mixture.members[0].frames + mixture.members[1].frames
    source = vd.open_source(dataset)
    episode = source.read(source.episodes()[2])
    actions = episode.arrays["action"].astype(np.float64)
    start = mixture.members[0].lengths[0]
    batch = mixture.gather([0], [start + 4])
    wanted = np.stack(
        [actions[4 + k // 2] if k % 2 == 0 else actions[4 + k // 2 : 6 + k // 2].mean(0) for k in range(10)]
    )
    assert np.array_equal(batch["action"][0, :, :7], wanted.astype(np.float32))
    assert batch["action"][0, :, 7:].max() == 0
    assert batch["action_mask"].sum() == 7
    assert np.array_equal(batch["observation.state"][0, 1, :7], actions[4].astype(np.float32))
    # history: 3 steps of 0.1 s before row 4 of 5 Hz is row 2.5
    assert np.array_equal(batch["observation.state"][0, 0, :7], actions[2:4].mean(0).astype(np.float32))
    assert batch["observation.images.camera0_is_pad"].tolist() == [[False, False]]
    assert batch["observation.images.camera1_is_pad"].tolist() == [[True, True]]
    other = mixture.gather([1], [0])
    assert other["observation.images.camera0_is_pad"].all()
    assert not other["observation.state_mask"].any()
    codes = [finding.code for finding in mixture.effective.findings]
    assert codes == ["rows_resampled", "mixed_blindly"] * 2 + ["no_effect"]


@pytest.mark.parametrize("freq", [10, None])
def test_recap_action_freq_must_be_there(recap: dict[str, Any], freq: float | None) -> None:
    assert (
        parse({**recap, "dataset_mixture": {**recap["dataset_mixture"], "action_freq": freq}}).contract.action_freq
        == freq
    )
    del recap["dataset_mixture"]["action_freq"]
    with pytest.raises(UsageError, match=r"E231.*action_freq"):
        parse(recap)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"root": None}, "E231.*root of dataset lab/a"),
        ({"data_features_name_mapping": None}, "E231.*data_features_name_mapping"),
        ({"data_features_name_mapping": {"camera0": "x"}}, "E231.*actions"),
        ({"use_delta_joint_actions": True}, "E001.*use_delta_joint_actions"),
        ({"vqa": "clevr"}, "E001.*vqa"),
        ({"epsodes": [1]}, "E001.*did you mean episodes"),
    ],
)
def test_recap_refuses(recap: dict[str, Any], change: dict[str, Any], message: str) -> None:
    recap["dataset_mixture"]["datasets"][0].update(change)
    with pytest.raises(UsageError, match=message) as caught:
        parse(recap)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("weigths",), [1], "did you mean weights"),
        (("contract", "chunks"), 3, "did you mean chunk"),
        (("contract", "chunk"), 0, "chunk is 0"),
        (("contract", "chunk"), True, "chunk is True"),
        (("contract", "image_size"), [3], "height and width"),
        (("contract", "image_size"), [3, 99999], "99999"),
        (("contract", "cameras"), ["a", "a"], "different names"),
        (("contract", "resample"), "rowz", "did you mean 'rows'"),
        (("contract", "action_freq"), -1, "action_freq is -1"),
        (("contract", "action_freq"), float("nan"), "not a number"),
        (("contract", "vector_resample_strategy"), "cubic", "nearest, linear"),
        (("contract", "delta_mask"), "6,-1", "need delta"),
        (("contract", "convention"), "libera", "libero"),
        (("contract", "convention"), 3, "preset"),
        (("datasets",), [], "1 to 10,000"),
        (("datasets",), {}, "list of tables"),
        (("datasets",), [{"root": "x", "rot": 1}], "did you mean root"),
        (("datasets",), [{}], "no root"),
        (("datasets",), [{"root": "x", "episodes": [1, 1]}], "twice"),
        (("datasets",), [{"root": "x", "episodes": [-1]}], "episodes is -1"),
        (("datasets",), [{"root": "x", "episodes": "all"}], "list of whole numbers"),
        (("datasets",), [{"root": "x", "cameras": {"a": 1}}], "names of features"),
        (("weights",), [1, 2], "2 weights for 1"),
        (("weights",), [-1], "weights is -1"),
        (("weighting",), "frame", "did you mean 'frames'"),
        (("temperature",), 2, "weighting = 'temperature'"),
        (("seed",), -1, "seed is -1"),
        (("memory_mb",), 0, "memory_mb"),
    ],
)
def test_configuration_refuses_in_one_line(path: tuple[str, ...], value: Any, message: str) -> None:
    facts = copy.deepcopy(OURS)
    inner = facts
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(UsageError, match=message) as caught:
        parse(facts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"{", b'{"a": 1, "a": 2}', b"[" * 100, b"\xff", b"[]", b"3"])
@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_broken_files_are_refused(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="E003"):
        load(tmp_path / "none.toml")


# -- the command line -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".toml", ".json"])
@pytest.mark.parametrize(
    "root", ["evil.py:Evil:data", "{folder}/evil.py:Evil:data", "evil:Evil:data", "os:system:id"]
)
def test_a_file_names_no_code(root: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mixture may come from anybody; what opens a user's own source is given in Python."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil:\n    pass\n")
    root = root.format(folder=tmp_path)
    text = "[contract]\ncameras = []\nimage_size = [8, 8]\nstate_dim = 7\naction_dim = 7\nchunk = 2\n"
    text += f'[[datasets]]\nroot = "{root}"\n'
    contract = {"cameras": [], "image_size": [8, 8], "state_dim": 7, "action_dim": 7, "chunk": 2}
    facts = {"contract": contract, "datasets": [{"root": root}]}
    path = tmp_path / f"mixture{suffix}"
    path.write_text(text if suffix == ".toml" else json.dumps(facts))
    with pytest.raises(UsageError, match="would import code") as caught:
        open_mixture(path)
    assert caught.value.code == "E001"
    assert not (tmp_path / "ran").exists()
    config = parse(facts)
    assert config.datasets[0].root == root


def test_command_prints_the_effective_sampling(tmp_path: Path) -> None:
    config = tmp_path / "m.json"
    two = [{"root": str(ROLLOUTS), "state": [], "name": name} for name in ("a", "b")]
    config.write_text(json.dumps({**OURS, "datasets": two, "weights": [1, 4]}))
    done = CliRunner().invoke(cli, ["mixture", str(config), "--json", "--draws", "1000"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert [(d["name"], d["share"], d["visits_per_epoch"]) for d in facts["datasets"]] == [
        ("a", 0.2, 0.4),
        ("b", 0.8, 1.6),
    ]
    assert facts["epoch_frames"] == 210
    assert sum(facts["draws"]["counts"]) == 1000
    assert facts["draws"]["degrees"] == 1
    assert facts["draws"]["chi_square"] < 15
    text = CliRunner().invoke(cli, ["mixture", str(config)])
    assert "20.00%" in text.stdout
    assert "80.00%" in text.stdout
    assert "4 times as often" in text.stderr


def test_command_says_with_exit_code_3_that_episodes_are_left_out(tmp_path: Path) -> None:
    for path in ROLLOUTS.iterdir():
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(data[:-1000] if "ep1" in path.name else data)
    config = tmp_path / "m.json"
    config.write_text(json.dumps({**OURS, "datasets": [{"root": f"ppo_rollout:{tmp_path}", "state": []}]}))
    done = CliRunner().invoke(cli, ["mixture", str(config), "--json"])
    assert done.exit_code == 3
    left = json.loads(done.stdout)["datasets"][0]["left_out"]
    assert [one["id"] for one in left] == ["PutCarrotOnPlate_noise_ep1.npz"]
    assert "1 episodes left out" in done.stderr
