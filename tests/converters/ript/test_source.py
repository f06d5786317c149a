"""ript-vla's rollouts in every form that its functions give; what is odd is told, and nothing runs."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.lerobot_sets import Here
from tests.ript_rollouts import STEPS, TASK, oft, quest, write
from vla_data.errors import DataError, UsageError


def episodes(folder: Path, **options: Any) -> list[vd.Episode]:
    source = vd.open_source(f"ript:{folder}", **options)
    return [source.read(ref) for ref in source.episodes()]


def test_steps_of_quest(tmp_path: Path) -> None:
    told = quest()
    (found,) = episodes(write(tmp_path, (np.True_, np.float64(1.0), told)), task=TASK)
    assert (found.id, found.task, len(found)) == ("rollouts.pkl", TASK, STEPS)
    np.testing.assert_array_equal(found.arrays["action"], told["actions"])
    np.testing.assert_array_equal(found.arrays["observation.joint_states"], told["joint_states"][:-1])
    np.testing.assert_array_equal(found.final["observation.joint_states"], told["joint_states"][-1:])
    for t in range(STEPS):
        pixels = found.frames["observation.images.agentview_rgb"].pixels(t)
        np.testing.assert_array_equal(pixels, told["agentview_rgb"][t])
    assert found.arrays["next.success"].tolist() == [False] * (STEPS - 1) + [True]
    assert found.meta["episode_metadata"] == {"init_hash": "0" * 64, "total_reward": 1.0}
    assert "left_out_as_of_inferences:context_tokens" in found.notes
    source = vd.open_source(f"ript:{tmp_path}", task=TASK)
    schema = source.schema(found)
    assert schema.fps == 20
    assert not any(schema.features[name].convention for name in ("action", "observation.joint_states"))


def test_inferences_of_openvla_oft_without_fillers(tmp_path: Path) -> None:
    told = oft()
    (found,) = episodes(write(tmp_path, (False, 0, told)))
    assert (found.task, len(found)) == (TASK, STEPS)
    np.testing.assert_array_equal(found.arrays["action"], np.float32(told["actions"][:STEPS]))
    np.testing.assert_array_equal(found.arrays["actions_normalized"], told["actions_normalized"][:STEPS])
    np.testing.assert_array_equal(found.arrays["log_prob"], told["log_prob"][:STEPS])
    states = [seen["state"] for seen in told["observations"][:STEPS]]
    np.testing.assert_array_equal(found.arrays["observation.state"], np.float32(states))
    assert sorted(found.frames) == ["observation.images.primary", "observation.images.wrist"]
    assert not found.arrays["next.success"].any()
    assert found.notes == ("fillers_after_success_left_out",)
    source = vd.open_source(f"ript:{tmp_path}")
    assert source.schema(found).fps == 2.5  # an item for each 8 steps


def test_all_that_its_functions_give_is_read(tmp_path: Path) -> None:
    one, two = quest(1) | {"success": True}, quest(2) | {"success": False}
    forms: list[tuple[Any, list[bool | None]]] = [
        (quest(1), [None]),
        (one, [True]),
        ([one, two], [True, False]),
        ([(True, 1.0, quest(1)), (False, 0.0, quest(2))], [True, False]),
        (([one, two, two], [3, 4, 4], [True, True, False], 2), [True, False]),
    ]
    for number, (told, solved) in enumerate(forms):
        folder = write(tmp_path / str(number), told)
        found = episodes(folder, task=TASK)
        assert [episode.meta.success for episode in found] == solved
        np.testing.assert_array_equal(found[0].arrays["action"], one["actions"])
    assert [episode.meta["episode_metadata"]["task_id"] for episode in found] == [3, 4]
    assert [episode.id for episode in found] == ["rollouts.pkl/000000", "rollouts.pkl/000001"]


def test_what_is_generated_has_tensors(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    one, two = quest(1) | {"success": torch.tensor(True)}, quest(2) | {"success": False}
    told = ([one, two, two], torch.tensor([3, 4, 4]), torch.tensor([True, True, False]), 2)
    found = episodes(write(tmp_path, told), task=TASK)
    assert [episode.meta.success for episode in found] == [True, False]


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"observations": []}, "E206"),
        ([], "E206"),
        ([quest(), 3], "E206"),
        (quest() | {"joint_states": np.zeros((STEPS, 7))}, "E204"),
        (quest() | {"actions": np.zeros(STEPS)}, "E203"),
        (quest() | {"actions": 3}, "E203"),
        (quest() | {"actions": np.full((STEPS, 7), np.nan)}, "E201"),
        (quest() | {"agentview_rgb": np.zeros((STEPS + 1, 4, 4, 2), np.uint8)}, "E203"),
        (quest() | {"joint_states": "seven"}, "E203"),
        (quest() | {"success": "yes"}, "E205"),
        (oft() | {"valid": [True, False] * 3 + [True]}, "E205"),
        (oft() | {"valid": [False] * (STEPS + 2)}, "E207"),
        (oft() | {"log_prob": []}, "E204"),
        (oft() | {"observations": [None] * (STEPS + 2)}, "E203"),
        ({key: value for key, value in oft().items() if key != "valid"}, "E206"),
        (([quest()], [1, 2], [True], 1), "E204"),
    ],
)
def test_what_is_odd_is_told(told: Any, code: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=code):
        episodes(write(tmp_path, told), task=TASK)


def test_an_instruction_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"E211 .*--task"):
        episodes(write(tmp_path, quest()))
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match=r"no files that end in \.pkl"):
        vd.open_source(f"ript:{tmp_path / 'none'}").episodes()


def test_a_batch_of_verl_is_named(tmp_path: Path) -> None:
    """SimpleVLA-RL keeps such batches in memory; they hold tokens and preprocessed images, and no actions."""
    (tmp_path / "batch.pkl").write_bytes(b"\x80\x04cverl.protocol\nDataProto\n)\x81.")
    with pytest.raises(DataError, match=r"E101 .*DataProto.*RolloutWriter"):
        episodes(tmp_path)


@pytest.mark.parametrize("flips", [200, pytest.param(2000, marks=pytest.mark.nightly)])
def test_random_damage_never_breaks_out(flips: int, tmp_path: Path) -> None:
    """Changed bits, mostly where the structure is: an episode, or a code; nothing else."""
    data = pickle.dumps([(True, 1.0, oft(1, fillers=0)), (False, 0.0, quest(2))])
    dice = random.Random(7)
    path = tmp_path / "rollouts.pkl"
    refused = 0
    for _ in range(flips):
        changed = bytearray(data)
        # A changed pixel can't be noticed by anybody.
        at = dice.choice([dice.randrange(len(data)), dice.randrange(400), len(data) - 1 - dice.randrange(400)])
        changed[at] ^= 1 << dice.randrange(8)
        path.write_bytes(changed)
        try:
            for episode in episodes(tmp_path, task=TASK):
                assert len(episode) >= 1
        except DataError:
            refused += 1
    assert refused > flips / 5


def test_convert_makes_a_dataset_of_them(tmp_path: Path) -> None:
    write(tmp_path / "in", [(True, 1.0, oft(1)), (False, 0.0, oft(2))])
    (tmp_path / "in/broken.pkl").write_bytes(b"\x80\x04}")
    report = vd.run(
        vd.open_source(f"ript:{tmp_path / 'in'}"), (), vd.open_sink(tmp_path / "out", images="png"), engine=Here()
    )
    assert (report.counts["published_episodes"], report.counts["error_episodes"]) == (2, 1)
    compared = vd.verify(tmp_path / "out", against=f"ript:{tmp_path / 'in'}")
    assert compared.ok
