"""Gates on real data: what each reader sees, and that it refuses what its trainer would get wrong.

The numbers that OpenVLA's and Octo's own loaders gave for the same datasets stand here as they were printed; those
loaders (openvla/openvla, octo-models/octo and kvablack/dlimp at their heads) can't be installed from PyPI.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import vla_data as vd
from tests.hdf5_files import ALOHA, DECLARED, LIBERO
from tests.paths import ROOT
from tests.stock_lerobot import PYTHONS, has_ours, needed
from tests.stock_lerobot import ask as ask_lerobot
from vla_data.cli.convert import command
from vla_data.errors import UsageError, VerifyError
from vla_data.formats import load_trainer, trainers
from vla_data.media.video_settings import VideoSettings
from vla_data.steps import SelectFeatures
from vla_data.verification.check import verify

pytest.importorskip("tensorflow_datasets")

ROLLOUTS = ROOT / "tests/data/rollouts"
BRIDGE = ROOT / "tests/data/rlds/bridge_dataset/1.0.0"

SOURCES: Mapping[str, tuple[Path, Mapping[str, Any]]] = {
    "rollouts": (ROLLOUTS, {}),
    "libero": (LIBERO, {}),
    "aloha": (ALOHA, DECLARED[ALOHA]),
    "bridge": (BRIDGE, {"fps": 5}),
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A dataset of real data; each is made once."""
    root = tmp_path_factory.mktemp("gates")

    def make(kind: str, to: str, *steps: Any, **options: Any) -> Path:
        given = (
            {"name": "set", "step_fields": "rlds", "float32": True, "val_fraction": 0.05} if to == "rlds" else {}
        )
        target = root / hashlib.sha256(f"{kind} {to} {steps} {options}".encode()).hexdigest()[:16]
        if not target.exists():
            path, declared = SOURCES[kind]
            sink = vd.open_sink(target, **{"format": to, **given, **options})
            vd.run(vd.open_source(path, **declared), steps, sink, workers=1)
        return target

    return make


def seen(gate: str, folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = load_trainer(gate, "gate").read_back(folder)
    for line in facts["lines"]:
        assert line.isprintable(), line
    json.dumps(facts)
    return facts


def refusal(gate: str, folder: Path) -> str:
    with pytest.raises(VerifyError) as caught:
        load_trainer(gate, "gate").read_back(folder)
    assert caught.value.code == "E601"
    assert "\n" not in caught.value.message
    return caught.value.message


# -- OpenVLA and Octo, as their own loaders ----------------------------------------------------------------

OPENVLA: Mapping[str, Mapping[str, Any]] = {
    "rollouts": {
        "trajectories": 3,
        "transitions": 105,
        "tokens": [31856, 31843, 31870, 31830, 31886, 31765, 31744],
    },
    "libero": {"trajectories": 3, "transitions": 29, "tokens": [31879, 31744, 31744, 31845, 31882, 31764, 31999]},
}
"""Printed by openvla's `make_dataset_from_rlds` and its token rule on these datasets, TensorFlow 2.21."""

OCTO: Mapping[str, Mapping[str, Any]] = {
    "rollouts": {
        "mean": [0.00093006, -0.00053243, -0.00302622, -0.00200173, -0.00341775, -0.01272738, 0.40952381],
        "std": [0.00930155, 0.0146447, 0.013157, 0.01204384, 0.01135027, 0.04059754, 0.91229969],
    },
    "libero": {
        "mean": [0.39885259, -0.34707731, 0.74260187, -0.22740328, 0.29186141, -0.02618259, -0.38155523],
        "std": [0.38003036, 0.48909977, 0.23927166, 0.39372259, 0.50473803, 0.19849196, 0.92196161],
    },
}
"""The same of octo's."""


def actions_of(kind: str) -> np.ndarray[Any, Any]:
    path, declared = SOURCES[kind]
    source = vd.open_source(path, **declared)
    return np.concatenate([source.read(ref).arrays["action"] for ref in source.episodes()]).astype(np.float32)


@pytest.mark.parametrize("kind", OPENVLA)
def test_openvla_sees_what_its_own_loader_sees(make: Callable[..., Path], kind: str) -> None:
    facts = seen("openvla", make(kind, "rlds"))
    assert {key: facts[key] for key in OPENVLA[kind]} == OPENVLA[kind]
    actions = actions_of(kind)
    for key, q in (("q01", 0.01), ("q99", 0.99)):
        assert facts[key] == np.quantile(actions, q, axis=0).tolist()


def test_openvla_names_its_configuration_and_what_hurts(make: Callable[..., Path]) -> None:
    facts = seen("openvla", make("libero", "rlds"))
    cameras = {"primary": "agentview_rgb", "secondary": None, "wrist": "eye_in_hand_rgb"}
    assert facts["config"]["image_obs_keys"] == cameras
    assert facts["config"]["state_obs_keys"] == ["state"]
    assert any("gripper goes below 0" in line for line in facts["warnings"])
    assert not any("no split val" in line for line in facts["warnings"])
    assert any(
        "no split val" in line for line in seen("openvla", make("libero", "rlds", val_fraction=0))["warnings"]
    )


@pytest.mark.parametrize("kind", OCTO)
def test_octo_sees_what_its_own_loader_sees(make: Callable[..., Path], kind: str) -> None:
    facts = seen("octo", make(kind, "rlds"))
    assert (facts["trajectories"], facts["transitions"]) == tuple(OPENVLA[kind].values())[:2]
    text = "\n".join(facts["lines"])
    for word, values in (("action mean", OCTO[kind]["mean"]), ("action std ", OCTO[kind]["std"])):
        assert f"{word} {' '.join(f'{value:.4g}' for value in values)}" in text
    assert facts["batch"]["action"] == "float32 (8, 2, 4, 7)"
    assert facts["batch"]["action_pad_mask"] == "bool (8, 2, 4, 7)"


def test_octos_windows_are_those_of_its_traj_transforms() -> None:
    """The first window repeats the first chunk; the mask is as Octo computes it, not as it describes it."""
    octo = load_trainer("octo", "gate")
    trajectory = {"action": np.arange(4, dtype=np.float32)[:, None], "observation": {}}
    batch = octo._batch(None, {"image_obs_keys": {}, "state_obs_keys": []}, trajectory)
    assert batch["action"][0, :, :, 0].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert batch["action"][3, :, :, 0].tolist() == [[2, 3, 3, 3], [3, 3, 3, 3]]
    assert batch["observation.timestep_pad_mask"].tolist() == [
        [False, True],
        [True, True],
        [True, True],
        [True, True],
    ]
    assert batch["action_pad_mask"][3, :, :, 0].tolist() == [[True, True, True, False], [True, True, False, False]]


@pytest.mark.parametrize("gate", ["openvla", "octo"])
def test_loaders_through_dlimp_get_bytes_of_float64(make: Callable[..., Path], gate: str) -> None:
    """Their own loaders end with ``Cast string to float is not supported`` here."""
    message = refusal(gate, make("libero", "rlds", float32=False))
    assert "float64" in message
    assert "--float32" in message
    assert seen("tfds", make("libero", "rlds", float32=False))["splits"]


def test_openvla_refuses_two_arms(make: Callable[..., Path]) -> None:
    assert "not 7 finite numbers" in refusal("openvla", make("aloha", "rlds"))
    assert seen("octo", make("aloha", "rlds"))["transitions"] == 6  # Octo has no such limit


@pytest.mark.parametrize("gate", ["openvla", "octo"])
def test_no_camera_and_no_dataset_are_refused(make: Callable[..., Path], gate: str, tmp_path: Path) -> None:
    blind = make("libero", "rlds", SelectFeatures(keep=("action", "observation.state")))
    assert "needs an image" in refusal(gate, blind)
    assert "0 such datasets" in refusal(gate, tmp_path)


@pytest.mark.parametrize("gate", ["openvla", "octo", "tfds"])
def test_damage_is_refused_in_one_line(make: Callable[..., Path], gate: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(make("rollouts", "rlds"), tmp_path / "set"))
    for shard in folder.glob("*.tfrecord*"):
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    assert refusal(gate, folder)


def test_openvla_reads_what_others_wrote() -> None:
    facts = seen("openvla", BRIDGE)
    assert (facts["trajectories"], facts["transitions"]) == (3, 18)
    assert facts["config"]["image_obs_keys"]["primary"] == "image_0"


# -- openpi ---------------------------------------------------------------------------------------------------


def test_openpi_sees_padded_vectors_and_resized_images(make: Callable[..., Path]) -> None:
    facts = seen("openpi", make("libero", "lerobot", images="png"))
    assert facts["episodes"] == 3
    assert facts["batch"] == {
        "actions": "float32 (8, 50, 32)",
        "state": "float32 (8, 32)",
        "image.base_0_rgb": "uint8 (8, 224, 224, 3)",
        "image.left_wrist_0_rgb": "uint8 (8, 224, 224, 3)",
    }
    assert facts["repack"]["observation/state"] == "observation.state"
    assert any("shorter than a chunk of 50" in line for line in facts["warnings"])


def test_openpi_repeats_the_last_action_and_pads_with_zeros(make: Callable[..., Path]) -> None:
    openpi = load_trainer("openpi", "gate")
    source = vd.open_source(make("libero", "lerobot", images="png"))
    episode = source.read(source.episodes()[0])
    batch = openpi._batch(episode, [], "observation.state")
    action = episode.arrays["action"].astype(np.float32)
    assert np.array_equal(batch["actions"][0, : len(action), :7], action)
    assert np.array_equal(batch["actions"][0, len(action) :, :7], np.repeat(action[-1:], 50 - len(action), axis=0))
    assert not batch["actions"][:, :, 7:].any()
    assert np.array_equal(batch["state"][:, :8], episode.arrays["observation.state"][:8].astype(np.float32))


def test_openpi_pads_images_without_stretching() -> None:
    openpi = load_trainer("openpi", "gate")
    image = np.full((120, 160, 3), 200, np.uint8)
    out = openpi.resize_with_pad(image, 224)
    assert out.shape == (224, 224, 3)
    rows = out.any(axis=(1, 2))
    assert (int(rows.sum()), int(np.argmax(rows))) == (168, 28)
    assert set(np.unique(out)) == {0, 200}


def test_openpi_refuses_what_it_can_not_train_on(make: Callable[..., Path]) -> None:
    assert "no feature action" in refusal("openpi", make("libero", "lerobot", SelectFeatures(drop=("action",))))
    assert "no camera" in refusal(
        "openpi", make("libero", "lerobot", SelectFeatures(drop=("observation.images.*",)))
    )
    warned = seen("openpi", make("rollouts", "lerobot"))["warnings"]
    assert any("no observation.state" in line for line in warned)


# -- through the command line ----------------------------------------------------------------------------------


def test_convert_opens_the_dataset_as_the_trainer_would(tmp_path: Path) -> None:
    words = ["--to", "rlds", "--float32", "--gate", "openvla", "--gate", "octo", "--json"]
    done = CliRunner().invoke(command, [str(LIBERO), str(tmp_path / "set"), *words])
    assert done.exit_code == 0, done.output
    gates = json.loads(done.stdout)["gates"]
    assert gates["openvla"]["tokens"] == OPENVLA["libero"]["tokens"]
    assert gates["octo"]["transitions"] == 29
    assert verify(tmp_path / "set", reader="openvla").ok


def test_a_gate_of_another_format_is_refused_before_any_work(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, [str(LIBERO), str(tmp_path / "set"), "--gate", "openvla"])
    assert isinstance(done.exception, vd.VlaDataError)
    assert done.exception.code == "E001"
    assert not (tmp_path / "set").exists()


def test_verify_names_what_the_reader_refuses(make: Callable[..., Path]) -> None:
    verdict = verify(make("aloha", "rlds"), reader="openvla")
    assert [damage.problem for damage in verdict.damages if "openvla" in damage.problem]


# -- lerobot, by an interpreter that has it -----------------------------------------------------------------------

ASK = """
import json, sys, importlib.util
from training_adapters.lerobot import gate as lerobot
from vla_data.errors import UsageError, VerifyError
try:
    print("SEEN " + json.dumps(lerobot.read_back(__import__("pathlib").Path(sys.argv[1]))))
except VerifyError as error:
    print("REFUSED " + error.message)
"""


@needed
def test_lerobot_opens_images_and_videos_and_refuses_nan_and_damage(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not has_ours(PYTHONS[0]):
        pytest.skip("that interpreter has no vla-data")

    def ask(folder: Path) -> str:
        done = ask_lerobot(PYTHONS[0], ASK, str(folder))
        assert done.returncode == 0, done.stderr[-2000:]
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(("SEEN ", "REFUSED "))]
        return line

    for options in ({"images": "png"}, {"video": VideoSettings(codec="h264")}):
        facts = json.loads(ask(make("rollouts", "lerobot", **options)).removeprefix("SEEN "))
        assert (facts["episodes"], facts["frames"]) == (3, 105)
        assert facts["batch"]["action"] == "float32 (8, 16, 7)"
        assert facts["batch"]["observation.images.primary"] == "float32 (8, 3, 120, 160)"
    spoiled = Path(shutil.copytree(make("rollouts", "lerobot", images="png"), tmp_path / "spoiled"))
    (file,) = (spoiled / "data").rglob("*.parquet")
    table = pq.read_table(file)
    action = np.stack(table["action"].to_numpy())
    action[3, 2] = np.nan
    column = pa.array(list(action), table.schema.field("action").type)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", column), file)
    assert ask(spoiled).startswith("REFUSED lerobot gives values of action that are not finite")
    file.write_bytes(file.read_bytes()[:-50])
    assert ask(spoiled).startswith("REFUSED lerobot can't read it")


@pytest.mark.parametrize("gate", ["octo", "openvla", "tfds"])
def test_a_gate_imports_no_class_that_a_dataset_names(
    gate: str, make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = Path(shutil.copytree(make("rollouts", "rlds"), tmp_path / "spoiled/1.0.0"))
    (tmp_path / "stranger.py").write_text("raise SystemExit('it was imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    features = spoiled / "features.json"
    named = features.read_text().replace("tensorflow_datasets.core.features.text_feature.Text", "stranger.Text")
    assert "stranger.Text" in named
    features.write_text(named)
    with pytest.raises((UsageError, VerifyError), match="stranger"):
        load_trainer(gate, "gate").read_back(spoiled)
    assert "stranger" not in sys.modules


def test_every_gate_has_a_test_here_or_of_its_own() -> None:
    text = Path(__file__).read_text()
    others = {
        "gr00t": ROOT / "tests/training_adapters/test_prepare.py",
        "rdt": ROOT / "tests/converters/rdt/test_sink.py",
        "rdt2": ROOT / "tests/converters/rdt2/test_sink.py",
    }
    for name in trainers("gate"):
        assert f'"{name}"' in text or name == "lerobot" or others[name].is_file()
