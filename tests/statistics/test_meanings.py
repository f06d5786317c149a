"""Statistics look at what numbers mean and never wrap: every integer type, declared kinds, groups of GR00T."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.statistics.test_trainers import Memory
from vla_data.actions import Convention, preset
from vla_data.core import Array
from vla_data.errors import DataError, RefusedError, UsageError
from vla_data.statistics.chunks import action_chunks, whole_chunks
from vla_data.statistics.make import Statistics, make
from vla_data.statistics.modality import groups
from vla_data.statistics.trainers import writer

DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool", "float16", "float32"]


@dataclass
class Meant(Memory):
    """Arrays with what they mean."""

    given: list[dict[str, Array]]
    conventions: dict[str, dict[str, Any]] = field(default_factory=dict)

    def schema(self, episode: vd.Episode) -> vd.Schema:
        features = {
            name: vd.Feature(
                dtype=str(array.dtype), shape=array.shape[1:], convention=self.conventions.get(name, {})
            )
            for name, array in episode.arrays.items()
        }
        return vd.Schema(features=features, fps=1)


def meant(action: Convention | None, state: Convention | None, count: int = 1) -> Meant:
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(20, 7)) for name in ("action", "observation.state")}
    told = {"action": action, "observation.state": state}
    return Meant([arrays] * count, {name: c.to_json() for name, c in told.items() if c is not None})


def openpi(*sources: Meant, mask: str = "yyyyyyn", **options: Any) -> Statistics:
    delta = tuple(letter == "y" for letter in mask)
    named = {f"set_{i}": source for i, source in enumerate(sources)}
    return make(named, writer("openpi", action_horizon=3, delta_actions=delta), **options)


def said(made: Statistics) -> list[str]:
    return [finding.message for finding in made.findings if finding.code == "convention"]


@pytest.mark.parametrize("of_state", DTYPES)
@pytest.mark.parametrize("of_action", DTYPES)
def test_differences_of_every_type_are_those_of_whole_numbers(of_action: str, of_state: str) -> None:
    top = 1 if "bool" in (of_action, of_state) else 100
    actions, states = np.zeros((4, 1), of_action), np.full((4, 1), top, of_state)
    wanted = -float(top)
    assert (action_chunks(actions, 2, states=states, delta=(True,)) == wanted).all()
    assert (whole_chunks(actions, 2, states) == wanted).all()
    assert (actions == 0).all()  # the episode's own numbers stay


def test_half_precision_does_not_overflow() -> None:
    actions, states = np.full((3, 1), 60000, np.float16), np.full((3, 1), -60000, np.float16)
    far = float(np.float16(60000)) * 2
    assert (action_chunks(actions, 2, states=states, delta=(True,)) == far).all()
    assert (whole_chunks(actions, 2, states) == far).all()


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_integers_that_no_float_holds_are_refused(dtype: str) -> None:
    with pytest.raises(DataError, match="E208"):
        action_chunks(np.full((3, 1), 2**53 + 1, dtype), 1, states=np.zeros((3, 1), dtype), delta=(True,))


@pytest.mark.parametrize("name", ["bridge", "libero", "rl4vla_ppo", "maniskill_pd_ee_delta_pose", "droid"])
def test_a_delta_of_deltas_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"E232.*set_0: action \[0-5\].*deltas of deltas"):
        openpi(meant(preset(name), None))
    assert not said(openpi(meant(preset(name), None), mask="nnnnnnn"))


POSE = Convention(
    layout={"translation": (0, 1, 2), "rotation": (3, 4, 5), "gripper": (6,)},
    kind="absolute",
    frame="world",
    translation_unit="m",
    rotation="euler_extrinsic_xyz",
    rotation_unit="rad",
    gripper_control="position",
    gripper_open=1.0,
    gripper_closed=0.0,
)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"translation_unit": "mm"}, "translation_unit is m and mm"),
        ({"frame": "robot_base", "rotation_frame": "world"}, "frame is world and robot_base"),
        ({"rotation": "euler_intrinsic_zyx"}, "rotation is euler_extrinsic_xyz and euler_intrinsic_zyx"),
        ({"rotation_unit": "deg"}, "rotation_unit is rad and deg"),
        ({"layout": {"rotation": (0, 1, 2), "translation": (3, 4, 5)}}, "translation and rotation"),
        ({"layout": {"translation": (2, 1, 0), "rotation": (3, 4, 5)}}, "other numbers of translation"),
        ({"kind": "delta", "reference": "current_state"}, "kind is absolute and delta"),
    ],
)
def test_a_state_of_other_meaning_is_not_subtracted(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        openpi(meant(POSE, replace(POSE, **changed)))


def test_angles_and_what_is_undeclared_get_a_word() -> None:
    assert not said(openpi(meant(POSE, POSE), mask="yyynnny"))
    (angles,) = said(openpi(meant(POSE, POSE)))
    assert "set_0: action [3-5] are euler_extrinsic_xyz, subtracted number by number" in angles
    (open_,) = said(openpi(meant(None, POSE)))
    assert "kind is undeclared" in open_
    assert "--declare action:" in open_


def test_datasets_of_unlike_meaning_are_not_taken_together_without_a_word() -> None:
    other = replace(POSE, gripper_open=0.0, gripper_closed=1.0, translation_unit="mm")
    both = [meant(POSE, None), meant(other, None)]
    for options in ({}, {"weights": [1, 2]}):
        texts = said(openpi(*both, mask="", **options))
        assert any("gripper: gripper_open is 1.0 in set_0, 0.0 in set_1" in text for text in texts)
        assert any("translation: translation_unit is m in set_0, mm in set_1" in text for text in texts)
    assert not said(openpi(meant(POSE, None), meant(POSE, None), mask=""))
    keyed = make({"a": both[0], "b": both[1]}, writer("openvla"))  # an entry each
    assert not said(keyed)


def gr00t(tmp_path: Path, **changed: Any) -> Any:
    facts = {"start": 0, "end": 2, **changed}
    (tmp_path / "meta").mkdir(exist_ok=True)
    text = json.dumps({"state": {"arm": {"start": 1, "end": 3}}, "action": {"arm": facts}})
    (tmp_path / "meta/modality.json").write_text(text)
    return groups(tmp_path)["arm"]


def test_gr00ts_groups_name_their_columns(tmp_path: Path) -> None:
    group = gr00t(tmp_path, original_key="action.arm")
    assert (group.state.column, group.action.column) == ("observation.state", "action.arm")
    given = [{"action.arm": np.full((5, 2), 7.0), "observation.state": np.tile([0.0, 1.0, 2.0], (5, 1))}]
    columns = {"arm": (group.state.column, group.action.column)}
    ranges = {"arm": (group.state.range, group.action.range)}
    made = make(
        {"a": Memory(given)}, writer("gr00t", relative=("arm",), action_horizon=3, groups=ranges, columns=columns)
    )
    assert made.document["arm"]["mean"] == [[6.0, 5.0]] * 3


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"absolute": False}, "is relative already"),
        ({"rotation_type": "rotation_6d"}, "is a rotation \\(rotation_6d\\)"),
        ({"rotation_type": "euler_angles_rpy"}, "is a rotation"),
    ],
)
def test_gr00ts_groups_that_are_not_made_relative_by_a_difference(
    tmp_path: Path, changed: dict[str, Any], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        gr00t(tmp_path, **changed).refuse_relative("arm")
    gr00t(tmp_path, absolute=True, rotation_type=None).refuse_relative("arm")


@pytest.mark.parametrize(
    "changed",
    [{"start": -1}, {"end": 0}, {"end": "2"}, {"start": True}, {"original_key": 3}, {"absolute": "yes"}],
)
def test_a_group_that_is_none(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="E002"):
        gr00t(tmp_path, **changed)


def test_episodes_without_a_whole_chunk_are_named() -> None:
    given = [{"action": np.zeros((n, 2)), "observation.state": np.zeros((n, 2))} for n in (4, 3, 0, 1)]
    options = {"relative": ("g",), "action_horizon": 4, "groups": {"g": ((0, 2), (0, 2))}}
    made = make({"a": Memory(given)}, writer("gr00t", **options))
    assert [left.code for left in made.datasets["a"].left_out] == ["E207"] * 3
    with pytest.raises(RefusedError, match="fewer than a chunk of 4"):
        make({"a": Memory(given[1:])}, writer("gr00t", **options))


ARM = Convention(
    layout={"gripper": (0,), "translation": (1, 2, 3), "rotation": (4, 5, 6)},
    kind="delta",
    translation_unit="m",
    rotation="rotvec",
    rotation_unit="rad",
    gripper_control="position",
    gripper_open=5.0,
    gripper_closed=-5.0,
)


@pytest.mark.parametrize("trainer", ["openvla", "octo"])
@pytest.mark.parametrize(
    ("mask", "text"),
    [
        ("yyyyyyn", "the mask leaves out action [6], and the declared gripper is [0]"),
        ("nyyyyyn", "the mask leaves out action [0,6], and the declared gripper is [0]"),
        ("nyyyyyy", None),
        ("yyyyyyy", None),
    ],
)
def test_a_mask_is_of_the_declared_gripper(trainer: str, mask: str, text: str | None) -> None:
    chosen = writer(trainer, action_mask=tuple(letter == "y" for letter in mask))
    made = make({"set": meant(ARM, None)}, chosen)
    assert said(made) == ([] if text is None else [f"set: {text}"])
    assert not said(make({"set": meant(None, None)}, chosen))


SLOTS = tuple(range(30, 39))
SIX: dict[str, Any] = {
    "layout": {"translation": (0, 1, 2), "rotation": (3, 4, 5, 6, 7, 8), "gripper": (9,)},
    "kind": "absolute",
    "translation_unit": "m",
    "rotation": "6d_columns",
    "gripper_control": "position",
    "gripper_open": 1.0,
    "gripper_closed": 0.0,
}


@pytest.mark.parametrize(
    ("changed", "slots", "text"),
    [
        ({}, (*SLOTS, 10), None),
        (
            {"rotation": "6d_rows"},
            (*SLOTS, 10),
            "[3-8] goes to slots [33-38], and rotation is 6d_rows, RDT's 6d_columns",
        ),
        ({"translation_unit": "mm"}, (*SLOTS, 10), "translation_unit is mm, RDT's m"),
        ({"gripper_open": 0.08}, (*SLOTS, 10), "gripper_open is 0.08, RDT's 1.0"),
        ({"gripper_open": 0.0, "gripper_closed": 1.0}, (*SLOTS, 10), "gripper_closed is 1.0, RDT's 0.0"),
        ({}, (*SLOTS, 9), "[9] goes to slots [9], and gripper has slots [10]"),
        ({}, (*range(80, 89), 60), None),  # the left arm
        ({}, (*range(81, 90), 60), "translation has slots [80-82]"),
    ],
)
def test_rdts_slots_are_of_what_is_declared(
    changed: dict[str, Any], slots: tuple[int, ...], text: str | None
) -> None:
    states = np.random.default_rng(0).uniform(0, 1, size=(200, 10))
    convention = Convention(**{**SIX, **changed}).to_json()
    source = Meant([{"action": states, "observation.state": states}], {"observation.state": convention})
    found = said(make({"set": source}, writer("rdt", slots=slots)))
    assert found == [] if text is None else any(text in line for line in found)


@pytest.mark.parametrize(("trainer", "options"), [("openvla", {"state": "observation.state"}), ("lerobot", {})])
def test_numbers_that_are_not_what_is_declared_are_named(trainer: str, options: dict[str, Any]) -> None:
    wrong = replace(ARM, gripper_open=0.1, gripper_closed=0.0)
    made = make({"set": meant(wrong, ARM)}, writer(trainer, **options))
    found = [f.message for f in made.findings if f.code == "contradicts_what_is_declared"]
    assert [text.partition("]")[0] for text in found if "far beyond" in text] == ["set: action [0"]
