"""RLinf's pickled episodes, with arrays and with tensors; nothing in them runs."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.odd_places import changed, places
from vla_data.errors import DataError, UsageError

STEPS = 5


def episode(*, success: bool = True, images: bool = True, convert: Any = lambda array: array) -> dict[str, Any]:
    """What ``CollectEpisode`` pickles."""
    pick = np.random.default_rng(0)

    def seen(t: int) -> dict[str, Any]:
        out: dict[str, Any] = {
            "states": convert(np.full(8, t, dtype=np.float32)),
            "task_descriptions": ["put the carrot on the plate"],
        }
        if images:
            out["main_images"] = convert(pick.integers(0, 255, (24, 32, 3)).astype(np.uint8))
            out["wrist_images"] = convert(pick.integers(0, 255, (2, 16, 16, 3)).astype(np.uint8))
        return out

    last = [t == STEPS - 1 for t in range(STEPS)]
    return {
        "rank": 0,
        "env_idx": 3,
        "episode_id": 7,
        "step": 40,
        "success": success,
        "observations": [seen(t) for t in range(STEPS + 1)],
        "actions": [convert(np.array([0.01, 0, 0, 0, 0, 0, 1], dtype=np.float32)) for _ in range(STEPS)],
        "rewards": [0.0, *(convert(np.array(float(done and success), np.float32)) for done in last)],
        "terminated": [False, *(convert(np.array(done and success)) for done in last)],
        "truncated": [False, *(convert(np.array(done and not success)) for done in last)],
        "infos": [{}, *({"success": convert(np.array(done and success))} for done in last)],
    }


def write(folder: Path, told: Any, *, number: int = 7, word: str = "success") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"rank_0_env_3_episode_{number}_step_40_{word}.pkl"
    path.write_bytes(pickle.dumps(told))
    return path


def read(folder: Path, **options: Any) -> vd.Episode:
    source = vd.open_source(f"rlinf:{folder}", **options)
    (ref,) = source.episodes()
    return source.read(ref)


def as_tensors() -> Any:
    torch = pytest.importorskip("torch")
    return lambda array: torch.from_numpy(np.array(array))


@pytest.mark.parametrize("kind", ["arrays", "tensors"])
def test_an_episode(tmp_path: Path, kind: str) -> None:
    convert = as_tensors() if kind == "tensors" else lambda array: array
    write(tmp_path, episode(convert=convert))
    found = read(tmp_path)
    assert found.task == "put the carrot on the plate"
    assert found.arrays["action"].shape == (STEPS, 7)
    np.testing.assert_array_equal(found.arrays["observation.state"][:, 0], np.arange(STEPS))
    assert found.final["observation.state"][0, 0] == STEPS  # the observation after the last action
    assert found.arrays["next.success"].tolist() == found.arrays["next.done"].tolist() == [False] * 4 + [True]
    assert found.arrays["next.reward"].tolist() == [0, 0, 0, 0, 1]
    assert sorted(found.frames) == [f"observation.images.{name}" for name in ("primary", "wrist_0", "wrist_1")]
    assert found.meta["episode_metadata"] == {"rank": 0, "env_idx": 3, "episode_id": 7, "step": 40}
    wanted = episode()["observations"][2]["main_images"]
    np.testing.assert_array_equal(found.frames["observation.images.primary"].pixels(2), wanted)


def test_tensors_are_what_pytorch_reads(tmp_path: Path) -> None:
    """Of every type, with offsets and strides; each as PyTorch itself has it."""
    torch = pytest.importorskip("torch")
    from vla_data.safety import unpickle

    base = torch.arange(24).reshape(2, 3, 4)
    kinds = ["bfloat16", "bool", "uint8", "int8", "float64", "float32", "float16", "int32", "int64", "int16"]
    given = {
        **{kind: base.to(getattr(torch, kind)) for kind in kinds},
        "slice": base.float()[:, 1:, ::2],
        "transposed": base.float().permute(2, 0, 1),
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 4),
        "large": torch.arange(70_000),
    }
    found = unpickle.loads(pickle.dumps(given), tensors=True)
    for name, tensor in given.items():
        wanted = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        np.testing.assert_array_equal(found[name], wanted.numpy())
        assert found[name].dtype == wanted.numpy().dtype
    with pytest.raises(DataError, match="E101"):
        unpickle.loads(pickle.dumps(given))


def test_a_storage_that_pytorch_would_not_write_is_refused() -> None:
    """Every single byte of the pickles before the numbers is changed."""
    torch = pytest.importorskip("torch")
    from vla_data.safety import unpickle

    data = pickle.dumps(torch.arange(3, dtype=torch.float32))
    begin, end = data.index(b"\x8a\x0al\xfc") - 2, data.index(b"\x03\0\0\0\0\0\0\0") + 8
    key = data.index(b"X", data.index(b"FloatStorage"))
    same = 0
    for place in range(begin, end):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            found = unpickle.loads(changed, tensors=True)
        except DataError:
            continue
        # Only the number of a position in a memo that is never recalled may be anything.
        same += 1
        np.testing.assert_array_equal(found, [0, 1, 2])
    assert same <= 4
    assert key > begin


def test_tensors_that_are_larger_than_their_storage_are_refused() -> None:
    from vla_data.safety import tensors

    flat = np.arange(4.0)
    for size, strides, offset in (((5,), (1,), 0), ((4,), (0,), 5), ((2, 2), (4, 1), 0), ((10**9,), (0,), 0)):
        with pytest.raises(DataError, match=r"E104 .*larger than its storage"):
            tensors.tensor((flat, offset, size, strides, False, {}))
    with pytest.raises(DataError, match="E104"):
        tensors.tensor((flat, 0, (0, 2**62, 2**62), (1, 1, 1), False, {}))


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def test_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in", episode() | {"infos": [Evil()] * (STEPS + 1)})
    with pytest.raises(DataError, match="E101"):
        read(tmp_path / "in")
    assert not (tmp_path / "ran").exists()


def test_a_failure_is_one_whatever_its_infos_say(tmp_path: Path) -> None:
    told = episode(success=False)
    told["infos"][2] = {"success": True}
    write(tmp_path, told, word="fail")
    assert not read(tmp_path).arrays["next.success"].any()


def test_what_a_person_did_is_the_action(tmp_path: Path) -> None:
    told = episode()
    told["infos"][3] |= {"intervene_flag": np.array([True]), "intervene_action": np.full(7, 0.5, np.float32)}
    write(tmp_path, told)
    found = read(tmp_path)
    assert found.arrays["action"][2].tolist() == [0.5] * 7
    assert found.arrays["action"][1].tolist() != [0.5] * 7
    assert "intervention_taken" in found.notes
    assert read(tmp_path, interventions=False).arrays["action"][2].tolist() != [0.5] * 7


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"observations": episode()["observations"][1:]}, "E204"),
        ({"actions": []}, "E207"),
        ({"success": "yes"}, "E205"),
        ({"infos": [1] * (STEPS + 1)}, "E203"),
        ({"actions": [np.zeros(7), *[np.zeros(6)] * (STEPS - 1)]}, "E203"),
        ({"actions": [np.full(7, np.nan)] * STEPS}, "E201"),
        ({"observations": [{"states": np.zeros(3)}] * (STEPS + 1)}, "E211"),
    ],
)
def test_episodes_that_are_none(tmp_path: Path, change: dict[str, Any], code: str) -> None:
    write(tmp_path, episode() | change)
    with pytest.raises(DataError, match=code):
        read(tmp_path)


ODD: Any = (
    *(None, True, -1, 2**70, 1e300, float("nan"), "", "five!", b"\xff", [], {}, [[]], {"a": 1}, [1, [2]], "x" * 6),
    *(np.zeros(0), np.zeros((0, 3)), np.zeros((2, 3, 4, 5)), np.array(3.0), np.array(["a"]), np.zeros(7, complex)),
    *(
        np.full((7, 7), np.nan),
        np.array([None, 1], object),
        np.zeros((24, 32, 3)),
        np.array(["2020-01-01"], "M8[D]"),
    ),
)


def test_whatever_stands_in_a_file_is_an_episode_or_refused(tmp_path: Path) -> None:
    """Each value of it exchanged for odd ones, of which each place gets a few."""
    told = episode()
    told["infos"][-1] |= {"intervene_flag": np.array(True), "intervene_action": np.ones(7, np.float32)}
    codes: dict[str, int] = {}
    for number, place in enumerate(places(told)):
        for odd in random.Random(number).sample(ODD, 5):
            write(tmp_path, changed(told, place, odd))
            try:
                made, code = read(tmp_path), ""
                assert all(len(array) == STEPS for array in made.arrays.values())
            except DataError as error:
                code = error.code
            codes[code] = codes.get(code, 0) + 1
    assert codes[""] > 20
    assert codes["E203"] > 100


def test_other_pickles_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"")
    with pytest.raises(UsageError, match=r"E003 .*has no rank_R"):
        vd.open_source(f"rlinf:{tmp_path}").episodes()


def test_align_makes_a_dataset_of_them(tmp_path: Path) -> None:
    for number, success in enumerate((True, True, False)):
        told = episode(success=success)
        write(tmp_path / "in", told, number=number, word="success" if success else "fail")
    steps = vd.recipes.ppo_sft(min_success_steps=1, pos_thresh=None, rot_thresh=None)
    report = vd.run(
        vd.open_source(f"rlinf:{tmp_path / 'in'}", fps=10.0),
        steps,
        vd.open_sink(tmp_path / "out", format="lerobot"),
    )
    assert (report.counts["published_episodes"], report.counts["failed_episodes"]) == (2, 1)
    source = vd.open_source(tmp_path / "out")
    assert {source.read(ref).task for ref in source.episodes()} == {"put the carrot on the plate"}
