"""Conventions as data: JSON both ways, presets, and what no convention can be."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.rollouts.source import CONVENTION
from tests.paths import ROOT
from vla_data.actions import PRESETS, UNDECLARED, Controller, Convention, preset, resolve
from vla_data.actions.convention import CHOICES
from vla_data.errors import UsageError

SEVEN = {"translation": (0, 1, 2), "rotation": (3, 4, 5), "gripper": (6,)}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json_and_pickle(name: str) -> None:
    convention = preset(name)
    assert Convention.from_json(json.loads(json.dumps(convention.to_json()))) == convention
    assert pickle.loads(pickle.dumps(convention)) == convention


def test_presets_are_sorted_and_all_documented() -> None:
    assert list(PRESETS) == sorted(PRESETS)
    text = (ROOT / "docs/conventions.md").read_text()
    assert {name for name in PRESETS if f"`{name}`" not in text} == set()


def test_every_word_is_documented() -> None:
    text = (ROOT / "docs/conventions.md").read_text()
    words = {word for name, choices in CHOICES.items() if name != "rotation" for word in (name, *choices)}
    words |= {name for name in CHOICES["rotation"] if not name.startswith("euler")}
    assert {word for word in words if not re.search(rf"`[^`]*\b{word}\b[^`]*`", text)} == set()


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'libero'"):
        preset("liberro")


def test_conventions_of_the_first_version_are_valid() -> None:
    """Without a layout: translation, rotation, gripper; every key is kept as it was written."""
    convention = Convention.from_json(CONVENTION)
    assert dict(convention.layout) == SEVEN
    assert CONVENTION.items() <= convention.to_json().items()
    assert convention.rotation == UNDECLARED


def test_nothing_declared_is_an_empty_dictionary() -> None:
    assert Convention().to_json() == {}
    assert Convention.from_json({}) == Convention()


def test_what_matters_and_is_open_is_written() -> None:
    facts = Convention(layout=SEVEN).to_json()
    assert {key for key, value in facts.items() if value == UNDECLARED} == {
        "kind",
        "reference",
        "frame",
        "translation_unit",
        "rotation",
        "rotation_unit",
        "gripper_control",
    }


def test_unknown_keys_are_kept() -> None:
    facts = {"time": "before_action", "colour": {"order": ["r", "g", "b"]}}
    assert Convention.from_json(facts).to_json() == facts


def _optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def conventions(draw: st.DrawFn) -> Convention:
    facts: dict[str, Any] = {
        name: draw(st.sampled_from([*choices, UNDECLARED]))
        for name, choices in CHOICES.items()
        if name not in ("rotation", "rotation_frame", "rotation_delta")
    }
    numbers = st.floats(-10, 10, allow_nan=False)
    facts["controller"] = Controller(
        translation_scale=draw(numbers.filter(bool)),
        rotation_scale=draw(numbers.filter(bool)),
        rotation_clip=draw(st.sampled_from(["none", "box", "norm"])),
        zero_rotation=draw(st.sampled_from(["applies", "holds"])),
    )
    if draw(st.booleans()):
        facts["gripper_open"], facts["gripper_closed"] = draw(
            st.tuples(numbers, numbers).filter(lambda e: e[0] != e[1])
        )
    facts["rotation"] = draw(st.sampled_from(["rotvec", "euler_extrinsic_xyz", UNDECLARED]))
    facts["rotation_frame"] = draw(_optional(st.sampled_from(CHOICES["rotation_frame"])))
    facts["rotation_delta"] = draw(st.sampled_from([*CHOICES["rotation_delta"], UNDECLARED]))
    facts["control_rate"] = draw(_optional(st.floats(0.1, 1000)))
    facts["chunk"] = draw(_optional(st.integers(1, 64)))
    facts["layout"] = draw(st.sampled_from([SEVEN, {"left_joints": (4, 2, 0), "left_gripper": (1,)}, {}]))
    facts["size"] = draw(_optional(st.integers(7, 128)))
    return Convention(**facts)


@given(conventions())
def test_json_round_trip(convention: Convention) -> None:
    assert Convention.from_json(json.loads(json.dumps(convention.to_json()))) == convention


@given(conventions())
def test_resolving_with_nothing_changes_nothing(convention: Convention) -> None:
    same = resolve(convention, Convention())
    if convention.kind == "absolute":  # a pose has no reference
        convention = replace(convention, reference=UNDECLARED, rotation_delta=UNDECLARED)
    if convention.reference != "chunk_start":
        convention = replace(convention, chunk=None)
    assert same == convention


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"kind": "relative"}, "kind is 'relative', not one of delta, absolute, velocity, undeclared"),
        ({"rotation": "rotvek"}, "did you mean 'rotvec'"),
        ({"gripper_open": 1.0}, "two different values"),
        ({"gripper_open": 1.0, "gripper_closed": 1.0}, "two different values"),
        ({"gripper_open": float("nan"), "gripper_closed": 1.0}, "not a number"),
        ({"layout": {"translation": [0, 1]}}, "takes 3 positions, not 2"),
        ({"layout": {"rotation": [0, 1, 2]}, "rotation": "6d_columns"}, "takes 6 positions"),
        ({"layout": {"translation": [0, 1, 2], "gripper": [2]}}, "positions that are taken"),
        ({"layout": {"gripper": [0, 0]}}, "positions that are taken"),
        ({"layout": {"gripper": [-1]}}, "0"),
        ({"layout": {"gripper": [10**9]}}, "4095"),
        ({"layout": {"gripper": "0"}}, "no positions"),
        ({"layout": [0]}, "must be a table"),
        ({"layout": {"gripper": [3]}, "size": 2}, "size"),
        ({"translation_unit": "controller"}, "controller must say"),
        ({"controller": {"translation_scale": 0.0, "rotation_scale": 1.0}}, "must be another number"),
        ({"controller": {"translation_scale": 1.0}}, "rotation_scale"),
        ({"controller": 0.05}, "must be a table"),
        (
            {"controller": {"translation_scale": 1.0, "rotation_scale": 1.0, "rotation_clip": "soft"}},
            "rotation_clip",
        ),
        ({"rotation": "6d_columns", "rotation_unit": "deg"}, "has no unit"),
        ({"rotation": "quaternion_xyzw", "kind": "velocity"}, "has no angles"),
        ({"rotation": "matrix", "rotation_delta": "angle_difference"}, "has no angles"),
        ({"control_rate": 0}, "control_rate"),
        ({"chunk": 0}, "chunk"),
        ({"kind": ["delta"]}, "kind"),
    ],
)
def test_what_no_convention_can_be(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Convention.from_json(facts)
    assert caught.value.code == "E232"
    assert "\n" not in str(caught.value)


def test_units_by_name() -> None:
    physical = preset("libero").with_units("m", "rad")
    assert (physical.translation_unit, physical.rotation_unit) == ("m", "rad")
    assert physical.with_units("controller", "controller") == preset("libero")
    with pytest.raises(UsageError, match="E231 undeclared: controller"):
        preset("bridge").with_units("controller", "controller")
