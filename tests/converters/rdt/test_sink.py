"""RDT's files: what is written, read back, sampled, verified; and what its own code makes of them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import vla_data as vd
from converters.rdt import check as rdt_check
from converters.rdt.file import AGILEX, AGILEX_ACTION, AGILEX_STATE
from converters.rdt.sample import Rules, Trajectory, first_step, sample, state_only, trajectory
from converters.rdt.sink import FACTS, RdtSink, action_convention, file_name
from converters.rdt.vectors import to_actions, vectors
from tests import hdf5_files
from tests.paths import ROOT, SHARED, TESTS
from training_adapters.rdt import Episodes, Hdf5VlaDataset, Hiding, gate, item
from vla_data.cli import cli
from vla_data.core import Published, Schema, Sink
from vla_data.core.ledger import Ledger
from vla_data.errors import DataError, RefusedError, UsageError, VerifyError
from vla_data.jobs import run as pipeline
from vla_data.media.frames import Frames

RDT = Path(os.environ.get("RDT_REPO", "/nowhere"))
"""A checkout of thu-ml/RoboticsDiffusionTransformer. Its class needs OpenCV, which `RDT_PYTHON` has."""


@pytest.fixture(scope="module")
def libero(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("rdt") / "libero"
    pipeline.run(
        hdf5_files.source(hdf5_files.LIBERO), (), RdtSink(target=target, name="cut", shortest=4, images="png")
    )
    return target


@pytest.fixture
def copy(libero: Path, tmp_path: Path) -> Path:
    shutil.copytree(libero, tmp_path / "set")
    return tmp_path / "set"


def examined(root: Path) -> tuple[list[str], dict[str, Any]]:
    problems: list[str] = []
    ledger = Ledger.read(root / "vla_data/rdt/ledger.parquet")
    schema = Schema.from_text((root / "vla_data/rdt/schema.json").read_text())
    facts = rdt_check.RdtAudit(
        root, ledger, schema, lambda file, problem, *_: problems.append(f"{file}: {problem}")
    ).run()
    return problems, facts


def moving(steps: int = 8) -> Trajectory:
    """The worked example of the specs: qpos[3:, 0] = .01, which is not above the limit, qpos[5:, 0] = .011."""
    state = np.zeros((steps, 128))
    state[3:, 0], state[5:, 0] = 0.01, 0.011
    action = np.repeat(np.arange(float(steps))[:, None], 128, axis=1)
    pixels = tuple(np.full((2, 3, 3), t, dtype=np.uint8) for t in range(steps))
    mask = np.arange(128) == 0
    rules = Rules(shortest=1)
    return Trajectory(
        id="e",
        state=state,
        action=action,
        state_mask=mask,
        action_mask=mask,
        frames={"cam_high": Frames(pixels, 2, 3)},
        task="t",
        first=first_step(state, rules),
    )


def test_files_hold_states_and_actions_as_they_are(libero: Path) -> None:
    source = hdf5_files.source(hdf5_files.LIBERO)
    for number, ref in enumerate(source.episodes()):
        episode = source.read(ref)
        want = vectors(episode, source.schema(episode))
        with h5py.File(libero / file_name(number, episode.task)) as file:
            assert np.array_equal(file["observations/qpos"][:], want.state)
            assert np.array_equal(file["action"][:], want.action)
            assert np.array_equal(file["state_indicator"][:], want.state_mask)
            assert np.array_equal(file["action_indicator"][:], want.action_mask)
            assert set(file["observations/images"]) == {"cam_high", "cam_right_wrist"}
            assert dict(file.attrs) == {
                "instruction": episode.task,
                "control_freq": 20.0,
                "vla_data_id": ref.id,
                "channel_order": "bgr",
                "compress": True,
            }


def test_every_task_has_a_folder_with_its_instruction(libero: Path) -> None:
    (folder,) = {path.parent for path in libero.glob("*/*.hdf5")}
    task = "pick up the black bowl between the plate and the ramekin and place it on the plate"
    found = json.loads((folder / "expanded_instruction_gpt-4-turbo.json").read_text())
    assert found == dict.fromkeys(("instruction", "simplified_instruction", "expanded_instruction"), task)
    assert file_name(0, "Café!") != file_name(0, "cafe")
    assert file_name(7, "…") == "task_" + file_name(7, "…").split("_")[1][:8] + "/episode_000007.hdf5"


def test_configuration_is_what_rdt_registers_a_dataset_by(libero: Path) -> None:
    configs = {path.name: json.loads(path.read_text()) for path in (libero / "configs").iterdir()}
    stat = configs.pop("dataset_stat.json")["cut"]
    assert configs == {
        "dataset_control_freq.json": {"cut": 20},
        "finetune_datasets.json": ["cut"],
        "finetune_sample_weights.json": {"cut": 100},
        "dataset_img_keys.json": {
            "cut": {
                "image_keys": ["cam_high", "cam_right_wrist", "cam_high", "cam_high"],
                "image_mask": [1, 1, 0, 0],
            }
        },
    }
    dataset = Hdf5VlaDataset(libero)
    parts = [dataset.get_item(i, state_only=True) for i in range(len(dataset))]
    states, actions = (np.concatenate([part[key] for part in parts]) for key in ("state", "action"))
    assert np.allclose(stat["state_mean"], states.mean(axis=0), rtol=0, atol=1e-15)
    assert np.allclose(stat["action_std"], actions.std(axis=0), rtol=0, atol=1e-15)
    assert (stat["state_min"], stat["state_max"]) == (states.min(axis=0).tolist(), states.max(axis=0).tolist())


def test_images_come_back_and_opencv_would_see_them_right(libero: Path) -> None:
    source = hdf5_files.source(hdf5_files.LIBERO)
    episode = source.read(source.episodes()[0])
    found = Hdf5VlaDataset(libero).trajectory(libero / file_name(0, episode.task))
    want = episode.frames["observation.images.agentview_rgb"]
    assert np.array_equal(found.frames["cam_high"].pixels(3), want.pixels(3))
    with h5py.File(libero / file_name(0, episode.task)) as file:
        stored = bytes(file["observations/images/cam_high"][3])
    import io

    from PIL import Image

    as_pillow = np.asarray(Image.open(io.BytesIO(stored)).convert("RGB"))
    assert np.array_equal(as_pillow[..., ::-1], want.pixels(3))  # what cv2.imdecode gives


def test_a_sample_begins_one_step_before_the_first_motion() -> None:
    whole = moving()
    assert whole.first == 4
    assert len(state_only(whole)["state"]) == 4
    got = sample(whole, 4, dataset_name="d", rules=Rules(shortest=1))
    assert got["meta"] == {"dataset_name": "d", "#steps": 8, "step_id": 4, "instruction": "t"}
    assert got["cam_high"][:, 0, 0, 0].tolist() == [3, 4]
    assert got["cam_high_mask"].tolist() == [False, True]
    got = sample(whole, 5, dataset_name="d", rules=Rules(shortest=1))
    assert got["cam_high"][:, 0, 0, 0].tolist() == [4, 5]
    assert got["cam_high_mask"].tolist() == [True, True]
    assert got["cam_left_wrist"].shape == (2, 0, 0, 0)
    assert not got["cam_left_wrist_mask"].any()
    with pytest.raises(ValueError, match="step 3 is not one of 4 to 7"):
        sample(whole, 3, dataset_name="d")


@pytest.mark.parametrize(("step", "want"), [(2, [2, 3, 4, 4]), (4, [4, 4, 4, 4])])
def test_a_chunk_repeats_the_last_action(step: int, want: list[int]) -> None:
    state = np.zeros((5, 128))
    state[1:, 0] = 1
    whole = moving()
    whole = Trajectory(
        id="e",
        state=state,
        action=whole.action[:5],
        state_mask=whole.state_mask,
        action_mask=whole.action_mask,
        frames={},
        task="t",
        first=0,
    )
    got = sample(whole, step, dataset_name="d", rules=Rules(chunk=4))
    assert got["actions"][:, 7].tolist() == want


def test_the_first_image_is_repeated_before_the_start() -> None:
    whole = moving()
    early = Trajectory(**{name: getattr(whole, name) for name in Trajectory.__slots__} | {"first": 0})
    got = sample(early, 0, dataset_name="d")
    assert got["cam_high"][:, 0, 0, 0].tolist() == [0, 0]
    assert got["cam_high_mask"].tolist() == [False, True]


def test_statistics_of_a_sample_are_of_the_whole_episode() -> None:
    whole = moving()
    got = sample(whole, 6, dataset_name="d")
    column = np.array([0, 0, 0, 0.01, 0.01, 0.011, 0.011, 0.011])
    assert got["state_mean"][0] == pytest.approx(column.mean(), rel=1e-15)
    assert got["state_std"][0] == pytest.approx(column.std(), rel=1e-14)
    assert got["state_norm"][0] == pytest.approx(np.sqrt((column**2).mean()), rel=1e-14)
    assert got["state_indicator"].tolist() == [1.0] + [0.0] * 127


def test_an_episode_that_rdt_would_stop_at_is_told_before() -> None:
    with pytest.raises(DataError, match="31 steps; RDT trains on 32 or more"):
        first_step(np.ones((31, 3)), Rules())
    with pytest.raises(DataError, match=r"moves by more than 0\.01"):
        first_step(np.full((40, 3), 0.5), Rules())


def test_short_demos_are_quarantined_and_counted(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="none of 3 episodes"):
        pipeline.run(hdf5_files.source(hdf5_files.LIBERO), (), RdtSink(target=tmp_path / "set"))


def test_agilex_files_are_what_rdts_class_divides(tmp_path: Path) -> None:
    sink = RdtSink(
        target=tmp_path / "set", layout="agilex", action_convention="aloha", state_convention="aloha", shortest=4
    )
    source = hdf5_files.source(hdf5_files.ALOHA)
    pipeline.run(source, (), sink)
    episode = source.read(source.episodes()[0])
    with h5py.File(tmp_path / "set" / file_name(0, episode.task)) as file:
        assert np.allclose(
            file["observations/qpos"][:] / AGILEX_STATE, episode.arrays["observation.state"], atol=1e-15
        )
        assert np.allclose(file["action"][:] / AGILEX_ACTION, episode.arrays["action"], rtol=1e-15, atol=0)
    whole = Hdf5VlaDataset(tmp_path / "set").get_item(0, state_only=True)
    first = len(episode) - len(whole["state"])
    assert np.allclose(whole["state"][:, AGILEX], episode.arrays["observation.state"][first:], atol=1e-15)
    assert examined(tmp_path / "set")[0] == []
    assert gate.read_back(tmp_path / "set")["slots"]["state"] == sorted(AGILEX)


def test_the_dataset_leads_back_to_liberos_actions(libero: Path) -> None:
    convention, simulator = action_convention(json.loads((libero / FACTS).read_text()))
    source = hdf5_files.source(hdf5_files.LIBERO)
    episode = source.read(source.episodes()[1])
    found = Hdf5VlaDataset(libero).trajectory(libero / file_name(1, episode.task))
    back = to_actions(found.action, convention, simulator)
    assert np.abs(back[:, :6] - np.clip(episode.arrays["action"][:, :6], -1, 1)).max() < 5e-16
    assert np.array_equal(back[:, 6], np.sign(episode.arrays["action"][:, 6]))


def test_a_whole_dataset_passes_the_deep_check_and_the_gate(libero: Path) -> None:
    problems, facts = examined(libero)
    assert problems == []
    assert (facts["episodes"], facts["frames"]) == (3, 29)
    assert 0.005 < facts["action_std"][0] < 0.05  # metres
    seen = gate.read_back(libero)
    assert (seen["episodes"], seen["control_freq"]) == (3, 20)
    assert seen["slots"] == {"state": [*range(7), 10, *range(30, 39)], "action": [10, *range(30, 39)]}
    assert seen["batch"]["actions"] == "float64 (8, 64, 128)"
    assert "  state in slots 0-6, 10, 30-38; action in slots 10, 30-38 (pose_delta)" in seen["lines"]
    assert any("episodes under 128 steps: all of these" in line for line in seen["lines"])


def edit(root: Path, change: Any) -> None:
    with h5py.File(sorted(root.glob("*/*.hdf5"))[0], "r+") as file:
        change(file)


def inverted(file: h5py.File) -> None:
    file["action"][:, 10] = 1 - file["action"][:, 10]


def raw(file: h5py.File) -> None:
    file["action"][:, 30:33] *= 20


def off_rotation(file: h5py.File) -> None:
    file["action"][:, 33:39] *= 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [(inverted, "the content is not"), (raw, "wrong_unit"), (off_rotation, "not_a_rotation")],
)
def test_a_changed_number_is_found(copy: Path, change: Any, problem: str) -> None:
    edit(copy, change)
    assert any(problem in line for line in examined(copy)[0])


def test_a_file_of_configuration_that_lies_is_found(copy: Path) -> None:
    path = copy / "configs/dataset_stat.json"
    stat = json.loads(path.read_text())
    stat["cut"]["state_mean"][30] += 1e-9
    path.write_text(json.dumps(stat))
    assert examined(copy)[0] == ["configs/dataset_stat.json: is not what the episodes give"]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: next(root.glob("*/expanded*")).unlink(), "no expanded_instruction_gpt-4-turbo.json with"),
        (lambda root: (root / "configs/dataset_control_freq.json").write_text("{}"), "has no entry for cut"),
        (lambda root: edit(root, raw), "RDT: wrong_unit"),
        (lambda root: edit(root, lambda file: file.__delitem__("action")), "lacks action|missing|action"),
        (lambda root: [path.unlink() for path in root.glob("*/*.hdf5")], "there is no [*].hdf5 file"),
    ],
)
def test_the_gate_refuses_what_rdt_could_not_use(copy: Path, break_it: Any, message: str) -> None:
    break_it(copy)
    with pytest.raises(VerifyError, match=message):
        gate.read_back(copy)


def test_a_missing_and_a_strange_file_are_found(copy: Path) -> None:
    files = sorted(copy.glob("*/*.hdf5"))
    shutil.copy(files[0], files[0].with_name("episode_000009.hdf5"))
    files[2].unlink()
    problems = examined(copy)[0]
    assert any("the episode's file is not there" in line for line in problems)
    assert any("is not an episode of the ledger" in line for line in problems)


def test_the_loader_draws_episodes_by_their_length(libero: Path) -> None:
    dataset = Hdf5VlaDataset(libero, seed=0)
    lengths = [len(dataset.get_item(i, state_only=True)["state"]) for i in range(3)]
    assert np.allclose(dataset.episode_sample_weights, np.array(lengths) / sum(lengths), rtol=1e-15)
    steps = [dataset.get_item()["meta"]["#steps"] for _ in range(50)]
    assert set(steps) == {11, 9}
    again = Hdf5VlaDataset(libero, seed=0)
    assert [again.get_item()["meta"]["#steps"] for _ in range(50)] == steps
    with pytest.raises(UsageError, match=r"no rdt\.json"):
        Hdf5VlaDataset(hdf5_files.LIBERO.parent)


def test_any_source_gives_its_steps_by_number() -> None:
    source = hdf5_files.source(hdf5_files.ROBOMIMIC)
    episodes = Episodes(source, rules=Rules(shortest=10))
    assert len(episodes) == 1
    assert list(episodes.left_out.values()) == ["E207 empty: 8 steps; RDT trains on 10 or more"]
    assert [episodes.locate(i)[1] for i in range(episodes.steps)] == list(range(episodes[0].first, 12))
    with pytest.raises(IndexError):
        episodes.locate(episodes.steps)


def test_nothing_hidden_is_the_sample_itself() -> None:
    whole = moving()
    got = sample(whole, 5, dataset_name="d")
    bare = Hiding(probability=0, snr=None)
    made = item(
        got, state_mean=np.ones(128), ctrl_freq=20.0, hiding=bare, rng=np.random.default_rng(0), image_size=4
    )
    assert (made["ctrl_freq"], made["instruction"]) == (20, "t")
    assert np.array_equal(made["states"], got["state"])
    assert np.array_equal(made["state_elem_mask"], got["state_indicator"])
    assert [image.shape for image in made["images"]] == [(3, 3, 3), (4, 4, 3), (4, 4, 3)] * 2
    assert made["images"][0][0].tolist() == [[4, 4, 4]] * 3
    assert made["images"][0][2].tolist() == [[127] * 3] * 3


def test_everything_hidden_is_what_rdt_puts_there() -> None:
    got = sample(moving(), 5, dataset_name="d")
    made = item(
        got,
        state_mean=np.full(128, 7.0),
        ctrl_freq=20.0,
        hiding=Hiding(probability=1),
        rng=np.random.default_rng(0),
        image_size=4,
    )
    assert (made["ctrl_freq"], made["instruction"]) == (0, "")
    assert (made["states"] == 7).all()
    assert not made["state_elem_mask"].any()
    assert all((image == 127).all() and image.shape == (4, 4, 3) for image in made["images"])
    assert np.array_equal(made["actions"], got["actions"])


def test_noise_on_the_state_has_the_size_that_was_asked_for() -> None:
    got = sample(moving(), 5, dataset_name="d") | {"state_std": np.full(128, 2.0)}
    hiding = Hiding(probability=0, snr=20)
    rng = np.random.default_rng(0)
    made = [
        item(got, state_mean=np.zeros(128), ctrl_freq=1, hiding=hiding, rng=rng, image_size=1) for _ in range(100)
    ]
    noise = np.stack([one["states"] - got["state"] for one in made])
    assert noise.std() == pytest.approx(0.2, rel=0.02)


def test_a_trajectory_says_why_an_episode_has_no_place() -> None:
    source = hdf5_files.source(hdf5_files.LIBERO)
    episode = source.read(source.episodes()[0])
    with pytest.raises(DataError, match="there is no camera nowhere"):
        trajectory(episode, source.schema(episode), cameras={"cam_high": "nowhere"}, rules=Rules(shortest=1))


def test_importing_the_adapter_leaves_pytorch_alone() -> None:
    code = "import sys, training_adapters.rdt; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def judged(python: str, root: Path, how: str, out: Path) -> dict[str, Any]:
    run = [python, str(ROOT / "tests/judges/rdt_judge.py"), str(RDT), str(root), how, str(out)]
    done = subprocess.run(
        run, capture_output=True, text=True, timeout=280, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("JUDGE ")]
    seen: dict[str, Any] = json.loads(line.removeprefix("JUDGE "))
    return seen


@pytest.mark.skipif(not RDT.exists() or not SHARED.exists(), reason="RDT_REPO names no checkout of RDT")
@pytest.mark.parametrize("how", ["class", "unified"])
def test_rdts_own_class_gives_the_same_samples(how: str, tmp_path: Path) -> None:
    """Every number and pixel is equal, but what the modified class says of slots and cameras that aren't there."""
    if how == "class":
        source = hdf5_files.source(SHARED / "aloha/episode_0.hdf5", task="hand over", fps=50, channel_order="rgb")
        options = {"layout": "agilex", "action_convention": "aloha", "state_convention": "aloha"}
    else:
        source, options = hdf5_files.source(SHARED / "libero/libero_spatial0_demo.hdf5"), {}
    root = tmp_path / "set"
    pipeline.run(source, (), RdtSink(target=root, name="judged", **options))  # type: ignore[arg-type]
    seen = judged(os.environ.get("RDT_PYTHON", sys.executable), root, how, tmp_path)
    dataset = Hdf5VlaDataset(root)
    weights = dict(zip((path.name for path in dataset.file_paths), dataset.episode_sample_weights, strict=True))
    assert seen["episodes"] == len(dataset)
    for one in seen["samples"]:
        whole = dataset.trajectory(root / one["file"])
        mine = sample(whole, one["meta"]["step_id"], dataset_name="judged")
        assert one["meta"] == mine["meta"]
        theirs = np.load(tmp_path / f"{one['arrays']}.npz")
        loose = {"state_indicator", "cam_left_wrist_mask"} if how == "unified" else set()
        for name in set(theirs) - loose:
            assert theirs[name].shape == mine[name].shape
            assert np.array_equal(theirs[name], mine[name]), name
        states = np.load(tmp_path / f"{one['arrays']}_states.npz")
        ours = state_only(whole)
        assert all(np.array_equal(states[key], ours[key]) for key in ("state", "action"))
        assert seen["weights"][one["arrays"]] == weights[Path(one["file"]).name]


TORCH = [
    *ROOT.glob(".venv-lerobot-0.4.4/lib/python3.11/site-packages"),
    Path(os.environ.get("TORCH_PACKAGES", "/nowhere")),
]
"""Where there is a PyTorch for this Python: lerobot's environment, or what `TORCH_PACKAGES` names."""


def with_torch(code: str, *words: str) -> str:
    places = [str(path) for path in TORCH if (path / "torch").exists()]
    if not places or sys.version_info[:2] != (3, 11):
        pytest.skip("no PyTorch for this Python; scripts/test makes one")
    start = f"import sys; sys.path.append({places[-1]!r}); sys.path.insert(0, {str(ROOT)!r})\n"
    run = [sys.executable, "-c", start + code, *words]
    done = subprocess.run(run, capture_output=True, text=True, timeout=280, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


BATCHES = """
import numpy as np, pickle
from torch.utils.data import DataLoader
from tests import hdf5_files
from converters.rdt.sample import Rules, sample
from training_adapters.rdt import RdtDataset

source = hdf5_files.source(hdf5_files.ROBOMIMIC)
dataset = RdtDataset(source, name="lift", rules=Rules(shortest=4), image_size=32)
loader = DataLoader(dataset, batch_size=4, collate_fn=dataset.collate, num_workers=2)
batches = list(loader)
assert sum(len(batch["states"]) for batch in batches) == len(dataset) == dataset.episodes.steps
n = len(dataset)
again = [dataset.collate([dataset[i] for i in range(at, min(at + 4, n))]) for at in range(0, n, 4)]
for key in ("states", "images"):
    assert all((a[key] == b[key]).all() for a, b in zip(batches, again))
at, step = dataset.episodes.locate(5)
want = sample(dataset.episodes[at], step, dataset_name="lift")
assert np.array_equal(dataset[5]["actions"].numpy(), want["actions"])
dataset.set_epoch(1)
assert any(dataset[i]["instruction"] != batches[i // 4]["instructions"][i % 4] for i in range(len(dataset)))
first = batches[0]
print({key: tuple(getattr(value, "shape", ())) for key, value in first.items()})
"""


def test_pytorch_gets_rdts_batches_from_any_source() -> None:
    shapes = eval(with_torch(BATCHES))
    assert shapes == {
        "states": (4, 1, 128),
        "actions": (4, 64, 128),
        "state_elem_mask": (4, 128),
        "state_norm": (4, 128),
        "images": (4, 6, 3, 32, 32),
        "data_indices": (),
        "ctrl_freqs": (4,),
        "instructions": (),
    }


@pytest.mark.skipif(not RDT.exists() or not SHARED.exists(), reason="RDT_REPO names no checkout of RDT")
def test_rdts_own_training_dataset_makes_the_same_batch(tmp_path: Path) -> None:
    root = tmp_path / "set"
    source = hdf5_files.source(SHARED / "libero/libero_spatial0_demo.hdf5")
    pipeline.run(source, (), RdtSink(target=root, name="judged"))
    judge = str(ROOT / "tests/judges/rdt_judge.py")
    code = "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    printed = with_torch(code, judge, str(RDT), str(root), "train").splitlines()
    (line,) = [text for text in printed if text.startswith("JUDGE ")]
    seen = json.loads(line.removeprefix("JUDGE "))
    assert seen["theirs"] == seen["ours"]
    assert seen["theirs"]["images"].startswith("uint8 (4, 6, 3, 384, 384)")


def published(sink: RdtSink) -> tuple[list[Published], Schema]:
    source = hdf5_files.source(hdf5_files.LIBERO)
    out = []
    for ref in source.episodes():
        episode = source.read(ref)
        schema = source.schema(episode)
        encoded = sink.encode(episode, schema)
        blob = b"".join(map(bytes, encoded.blob))
        digest = hashlib.sha256(blob).hexdigest()
        out.append(Published(ref.id, encoded.content, encoded.summary, digest, lambda blob=blob: blob))  # type: ignore[misc]
    return out, schema


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_sink_keeps_the_contract(tmp_path: Path) -> None:
    sink = RdtSink(target=tmp_path / "set", shortest=4)
    assert isinstance(sink, Sink)
    assert str(tmp_path) not in repr(sink)
    assert repr(pickle.loads(pickle.dumps(sink))) == repr(sink)
    trees = []
    for name in ("one", "two"):
        episodes, schema = published(sink)
        (tmp_path / name).mkdir()
        sink.assemble(episodes, schema, tmp_path / name)
        sink.check(tmp_path / name, episodes)
        trees.append(tree(tmp_path / name))
    assert trees[0] == trees[1]
    for name in sorted(trees[0]):
        path = tmp_path / "one" / name
        whole = path.read_bytes()
        path.write_bytes(
            whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :]
        )
        with pytest.raises(VerifyError):
            sink.check(tmp_path / "one", episodes)
        path.write_bytes(whole)


def test_against_its_source_is_compared_in_terms_of_rdt(tmp_path: Path) -> None:
    source = TESTS / "data/hdf5/libero_spatial0_demo.hdf5"
    vd.run(vd.open_source(source), (), vd.open_sink(tmp_path / "out", format="rdt", shortest=5))
    good = CliRunner().invoke(cli, ["verify", str(tmp_path / "out"), "--against", str(source)])
    assert good.exit_code == 0, good.output
    (file, *_) = sorted((tmp_path / "out").glob("*/*.hdf5"))
    with h5py.File(file, "r+") as opened:
        opened["action"][...] = opened["action"][...] * 2
    bad = CliRunner().invoke(cli, ["verify", str(tmp_path / "out"), "--against", str(source)])
    assert bad.exit_code == 6
    assert "wrong_scale" in bad.output
