"""Configurations: ours and RECAP's, what is refused, the command line, and the two adapters."""

from __future__ import annotations

import copy
import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import vla_data as vd
from tests.paths import ROOT, TESTS
from tests.stock_lerobot import PYTHONS, has_ours, needed
from vla_data.cli import cli
from vla_data.errors import UsageError
from vla_data.mixtures import Contract, Loader, load, open_mixture, parse

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
        (("contract", "delta_mask"), "6,-1", "without delta"),
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


# -- adapters -------------------------------------------------------------------------------------------


def loader(**rest: Any) -> Loader:
    return Loader(open_mixture({**OURS, **rest}), batch_size=16)


def uneven() -> list[Loader]:
    """Two ranks of 105 frames: the first has 26, 26 and 1, the second no third batch."""
    mixture = open_mixture({**OURS, "order": "shuffle"})
    ranks = [Loader(mixture, batch_size=26, rank=r, world_size=2, last="short") for r in range(2)]
    assert [len(one) for one in ranks] == [3, 2]
    return ranks


def equal(batch: dict[str, Any], other: dict[str, Any]) -> bool:
    return batch.keys() == other.keys() and all(np.array_equal(np.asarray(other[k]), v) for k, v in batch.items())


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="the tests below run as they are")
@needed
def test_torch_batches_where_torch_is() -> None:
    if not has_ours(PYTHONS[0]):
        pytest.skip("that interpreter has no vla-data")
    run = [PYTHONS[0], "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}", "-k", "torch_batches_are"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=280, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_torch_batches_are_the_stream_with_any_number_of_workers(workers: int) -> None:
    torch = pytest.importorskip("torch")
    from training_adapters.torch_batches import TorchLoader

    plain = loader()
    wanted = [*plain, *plain]
    one = TorchLoader(loader(), workers=workers)
    got = []
    for batch in one:
        got.append(batch)
        if len(got) == 2:
            break
    state = json.loads(json.dumps(one.state_dict()))
    again = TorchLoader(loader(), workers=workers)
    again.load_state_dict(state)
    got += [*again, *again]
    assert len(got) == len(wanted)
    assert all(equal(a, b) for a, b in zip(wanted, got, strict=True))
    assert got[0]["action"].dtype == torch.float32
    assert got[0]["timestamp"].dtype == torch.float64


def test_torch_batches_are_complete_for_ranks_with_unequal_shares() -> None:
    pytest.importorskip("torch")
    from training_adapters.torch_batches import TorchLoader

    ranks = [TorchLoader(one) for one in uneven()]
    for one, plain in zip(ranks, uneven(), strict=True):
        for _ in range(2):
            assert all(equal(a, b) for a, b in zip(plain, one, strict=True))
    assert [one.state_dict()["epoch"] for one in ranks] == [2, 2]
    assert ranks[0].state_dict() == ranks[1].state_dict()


@pytest.mark.parametrize("history", [None, 2])
def test_tf_data_has_the_stream_by_the_names_of_rlds(history: int | None) -> None:
    tf = pytest.importorskip("tensorflow")
    from training_adapters.tf_batches import dataset

    contract = {**OURS["contract"], "history": history, "state_dim": 7}
    entries = [{"root": str(ROLLOUTS), "state": ["action"], "name": "pick"}]
    changed = {"contract": contract, "datasets": entries}
    wanted = list(loader(**changed))
    data = dataset(loader(**changed))
    assert data.element_spec["observation"]["image_primary"] == tf.TensorSpec(
        (None, history or 1, 32, 32, 3), tf.uint8
    )
    got = list(data.as_numpy_iterator())
    assert len(got) == len(wanted) == 6
    for mine, theirs in zip(wanted, got, strict=True):
        image = mine["observation.images.primary"]
        assert np.array_equal(theirs["observation"]["image_primary"], image if history else image[:, None])
        assert np.array_equal(theirs["action"], mine["action"])
        assert np.array_equal(theirs["action_pad_mask"], ~mine["action_is_pad"])
        pads = mine["observation.state_is_pad"]
        assert np.array_equal(theirs["observation"]["timestep_pad_mask"], ~(pads if history else pads[:, None]))
        assert [text.decode() for text in theirs["task"]["language_instruction"]] == mine["task"]
        assert set(theirs["dataset_name"]) == {b"pick"}


def rows_of(batch: dict[str, Any]) -> list[tuple[int, ...]]:
    """What tells frames of the rollouts apart in a batch of RLDS's names, and in one of ours."""
    frame = batch["observation"]["timestep"] if "observation" in batch else batch["frame_index"]
    actions = np.asarray(batch["action"]).view(np.uint32).reshape(len(frame), -1)
    return [(*action, int(i)) for action, i in zip(actions.tolist(), frame, strict=True)]


@pytest.mark.parametrize("ahead", [0, 1, 5])
@pytest.mark.parametrize("workers", [0, 2])
def test_tf_data_goes_on_where_it_was_left(ahead: int, workers: int) -> None:
    """However an iteration stops, the next begins with the batch after it, and the state is that of the batch."""
    pytest.importorskip("tensorflow")
    from training_adapters.tf_batches import dataset

    plain = loader(order="shuffle")
    wanted = [rows_of(batch) for _ in range(5) for batch in plain]
    one = Loader(open_mixture({**OURS, "order": "shuffle"}), batch_size=16, workers=workers)
    data = dataset(one, ahead=ahead)
    got = []
    for batch in data.as_numpy_iterator():
        got.append(rows_of(batch))
        assert (one.epoch, one.number) == divmod(len(got), 6)
        if len(got) == 2:
            break
    state = json.loads(json.dumps(one.state_dict()))
    got += [rows_of(batch) for batch in data.take(1).as_numpy_iterator()]
    assert (one.epoch, one.number) == (0, 3)
    got += [rows_of(batch) for batch in data.as_numpy_iterator()]  # the rest of the epoch
    assert (len(got), one.epoch, one.number) == (6, 1, 0)
    got += [rows_of(batch) for batch in data.as_numpy_iterator()]
    assert len(got) == 12
    got += [rows_of(batch) for batch in data.repeat().take(18).as_numpy_iterator()]
    assert got == wanted
    one.load_state_dict(state)
    assert [rows_of(batch) for batch in data.repeat(2).as_numpy_iterator()] == wanted[2:12]


def test_tf_data_of_ranks_with_unequal_shares() -> None:
    pytest.importorskip("tensorflow")
    from training_adapters.tf_batches import dataset

    wanted = [[rows_of(batch) for _ in range(3) for batch in one] for one in uneven()]
    ranks = uneven()
    data = [dataset(one) for one in ranks]
    got = [[rows_of(batch) for batch in one.take(2).as_numpy_iterator()] for one in data]
    state = ranks[1].state_dict()  # the second has nothing left, and is not further than the first
    assert state == ranks[0].state_dict()
    assert (state["epoch"], state["batch"]) == (0, 2)
    again = uneven()
    for rank, one, head in zip(range(2), again, got, strict=True):
        one.load_state_dict(state)
        rest = len(wanted[rank]) - 2
        head += [rows_of(batch) for batch in dataset(one).repeat().take(rest).as_numpy_iterator()]
    assert got == wanted
    ends = uneven()
    for one in ends:
        assert len(list(dataset(one))) == len(one)
    assert ends[0].state_dict() == ends[1].state_dict()
    assert (ends[0].epoch, ends[0].number) == (1, 0)
