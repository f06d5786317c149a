"""Renaming, choosing, filling and declaring features: the frames stay, and the schema says what the arrays are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vla_data as vd
from converters.lerobot.source import LerobotSource
from tests.lerobot_sets import vector, write
from tests.rollouts import CAMERA, MOVE, episode
from vla_data.core import Feature, Schema
from vla_data.core.base import narrowed
from vla_data.core.curate import curate, describe
from vla_data.errors import DataError, UsageError
from vla_data.media.frames import Frames
from vla_data.steps import Declare, Fill, Rename, SelectFeatures

NAMES = ["action", "next.success", "observation.state", CAMERA]


def three() -> vd.Episode:
    whole = episode([MOVE] * 3, [0, 1, 1])
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    return replace(
        whole,
        arrays={**whole.arrays, "observation.state": np.arange(6.0).reshape(3, 2)},
        frames={CAMERA: Frames((image, image, image), 4, 6)},
    )


def schema_of(whole: vd.Episode) -> Schema:
    features = {
        name: Feature(dtype=str(array.dtype), shape=array.shape[1:] or (1,))
        for name, array in whole.arrays.items()
    }
    features |= {n: Feature(dtype="image", shape=(f.height, f.width, 3)) for n, f in whole.frames.items()}
    return Schema(features=features, fps=5.0)


def names(whole: vd.Episode) -> set[str]:
    return {*whole.arrays, *whole.frames}


def test_rename_moves_values_and_their_meaning() -> None:
    step = Rename(names=(("observation.state", "observation.pose"), (CAMERA, "observation.images.front")))
    after = step.apply(three())
    assert "observation.state" not in after.arrays
    np.testing.assert_array_equal(after.arrays["observation.pose"], three().arrays["observation.state"])
    assert set(after.frames) == {"observation.images.front"}
    schema = schema_of(three())
    assert step.describe(schema).features["observation.pose"] == schema.features["observation.state"]


def test_two_features_can_swap_their_names() -> None:
    whole = replace(three(), arrays={"a": np.zeros(3), "b": np.ones(3)})
    after = Rename(names=(("a", "b"), ("b", "a"))).apply(whole)
    assert (after.arrays["a"][0], after.arrays["b"][0]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("pairs", "code"), [((("nothing", "x"),), "E206"), ((("observation.state", "action"),), "E203")]
)
def test_rename_refuses_what_is_missing_or_taken(pairs: tuple[tuple[str, str], ...], code: str) -> None:
    with pytest.raises(DataError) as caught:
        Rename(names=pairs).apply(three())
    assert caught.value.code == code


def test_rename_refuses_a_name_that_it_has_twice() -> None:
    with pytest.raises(ValueError, match="new name twice: x, x"):
        Rename(names=(("a", "x"), ("b", "x")))


def test_keep_and_drop_are_patterns_and_drop_wins() -> None:
    after = SelectFeatures(keep=("observation.*",), drop=("*.images.*",)).apply(three())
    assert names(after) == {"observation.state"}
    assert after.task == three().task


def test_keep_of_nothing_is_an_error_and_not_an_empty_set() -> None:
    with pytest.raises(DataError, match="no feature wrist to keep; known are action, info"):
        SelectFeatures(keep=("wrist",)).apply(three())


def test_fill_marks_what_it_made_and_what_was_there() -> None:
    made = Fill(name="observation.force", shape=(6,), value=-1).apply(three())
    assert made.arrays["observation.force"].tolist() == [[-1.0] * 6] * 3
    assert made.arrays["observation.force_is_pad"].tolist() == [True] * 3
    there = Fill(name="observation.state", shape=(2,), dtype="float64").apply(three())
    assert there.arrays["observation.state_is_pad"].tolist() == [False] * 3
    np.testing.assert_array_equal(there.arrays["observation.state"], three().arrays["observation.state"])


def test_fill_makes_cameras() -> None:
    made = Fill(name="observation.images.wrist", shape=(8, 10, 3), dtype="image", value=7).apply(three())
    assert made.frames["observation.images.wrist"].pixels(2).tolist() == np.full((8, 10, 3), 7).tolist()


def test_fill_refuses_another_size() -> None:
    with pytest.raises(DataError, match=r"observation.state is float64\(2,\), not float32\(7,\)"):
        Fill(name="observation.state", shape=(7,)).apply(three())


@pytest.mark.parametrize("options", [{"shape": (0,)}, {"shape": (3, 3), "dtype": "image"}, {"dtype": "object"}])
def test_fill_refuses_what_can_not_be(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"shape|dtype"):
        Fill(**{"name": "x", "shape": (2,), **options})  # type: ignore[arg-type]


def test_declare_replaces_the_keys_that_it_names() -> None:
    schema = schema_of(three())
    features = {**schema.features, "action": replace(schema.features["action"], convention={"a": 1, "b": 2})}
    step = Declare(conventions=(("action", (("b", 3), ("kind", "delta"))),), robot="panda")
    after = step.describe(replace(schema, features=features))
    assert (after.features["action"].convention, after.robot) == ({"a": 1, "b": 3, "kind": "delta"}, "panda")
    with pytest.raises(UsageError, match="no feature acton"):
        Declare(conventions=(("acton", ()),)).describe(schema)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("layout.joints", r'action can\'t have layout.joints: layout is one value, such as layout=\{"joints"'),
        ("rotatoin", "did you mean rotation"),
        ("zzz", "a convention has chunk, colour, control_rate, controller"),
    ],
)
def test_declare_refuses_a_key_that_no_convention_has(key: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Declare(conventions=(("action", ((key, "0,1,2"),)),)).describe(schema_of(three()))
    assert (caught.value.code, len(caught.value.message) < 400) == ("E001", True)


@st.composite
def feature_steps(draw: st.DrawFn) -> tuple[object, ...]:
    rename = Rename(names=((draw(st.sampled_from(NAMES)), "renamed"),))
    select = SelectFeatures(drop=tuple(draw(st.lists(st.sampled_from([*NAMES, "obs*", "next.*"]), max_size=2))))
    fill = Fill(name="extra", shape=(draw(st.integers(1, 4)),), value=draw(st.floats(-9, 9)))
    return tuple(draw(st.permutations([rename, select, fill])))


@given(feature_steps())
def test_schema_and_episode_change_alike_and_no_frame_is_lost(steps: tuple[vd.Transform, ...]) -> None:
    whole = three()
    try:
        curated = curate(whole, steps)
    except DataError as error:
        assert error.code == "E206"  # renamed after it was dropped
        return
    after = curated.episode
    assert after is not None
    assert [(s.start, s.stop, s.bucket) for s in curated.spans] == [(0, 3, "kept")]
    schema = describe(schema_of(whole), steps)
    assert set(schema.features) == names(after)
    for name, array in after.arrays.items():
        feature = schema.features[name]
        assert (feature.dtype, feature.shape) == (str(array.dtype), array.shape[1:] or (1,))


def test_a_name_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    """Also where nothing was read because nothing that is there is wanted."""
    root = write(
        tmp_path / "in", [{"action": [[1.0]] * 4, "x": [[2.0]] * 4}], {"action": vector(1), "x": vector(1)}
    )
    for step in (SelectFeatures(keep=("actoin",)), Rename(names=(("actoin", "b"),))):
        source = narrowed(LerobotSource(root=root), (step,))
        with pytest.raises(DataError, match=r"no feature actoin to .*; known are action, x"):
            step.apply(source.read(source.episodes()[0]))


@pytest.mark.parametrize(
    ("notes", "drop", "want"),
    [
        ((), ("observation.x",), ("leave_out_names_nothing:observation.x",)),
        ((), ("*.images.*",), ("leave_out_names_nothing:*.images.*",)),
        ((), ("action",), ("left_out:action",)),
        (("left_out:observation.x",), ("observation.x",), ()),
        (("left_out:before",), ("after",), ()),
    ],
)
def test_what_is_to_be_dropped_and_is_not_there_is_noted(notes: Any, drop: Any, want: Any) -> None:
    """A name that is written wrong drops nothing; what a source did not read for it was there."""
    actions = np.zeros((2, 3), np.float32)
    whole = vd.Episode(id="a", arrays={"action": actions}, frames={}, task="x", index=np.arange(2), notes=notes)
    assert SelectFeatures(drop=drop).apply(whole).notes == (*notes, *want)
