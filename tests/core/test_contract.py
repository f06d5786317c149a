"""What a step gives is what it says, or an error with its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.rollouts import CAMERA, MOVE, STILL
from tests.rollouts import episode as made
from vla_data.core.contract import bucket_of, reason_of
from vla_data.core.curate import curate
from vla_data.core.ledger import Span
from vla_data.errors import UsageError
from vla_data.media.frames import Frames

EPISODE = made([STILL, MOVE, MOVE], [0, 1, 1])
SCHEMA = vd.Schema(
    features={
        "action": vd.Feature(dtype="float32", shape=(7,)),
        "next.success": vd.Feature(dtype="bool", shape=(1,)),
        CAMERA: vd.Feature(dtype="image", shape=(4, 6, 3)),
        "not.there": vd.Feature(dtype="float32", shape=(1,)),
    },
    fps=5.0,
)
"""The episode also has ``info.success``, which nobody has described; a source may do so."""


class Step:
    """A step that does and says what a test tells it."""

    def __init__(self, does: Callable[[vd.Episode], Any], describes: dict[str, vd.Feature | None]) -> None:
        self.does, self.describes = does, describes

    def apply(self, episode: vd.Episode) -> Any:
        return self.does(episode)

    def describe(self, schema: vd.Schema) -> vd.Schema:
        features = {**schema.features, **self.describes}
        return replace(schema, features={name: f for name, f in features.items() if f is not None})


def with_array(name: str, value: Any) -> Callable[[vd.Episode], vd.Episode]:
    return lambda episode: replace(episode, arrays={**episode.arrays, name: value})


def without(name: str) -> Callable[[vd.Episode], vd.Episode]:
    return lambda episode: replace(episode, arrays={n: a for n, a in episode.arrays.items() if n != name})


def with_frames(episode: vd.Episode) -> vd.Episode:
    return replace(episode, frames={CAMERA: Frames(tuple(np.zeros((2, 6, 3), np.uint8) for _ in range(3)), 2, 6)})


F32 = vd.Feature(dtype="float32", shape=(1,))
ONES = np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("does", "describes", "problem"),
    [
        (
            with_array("speed", ONES),
            {},
            "its result has speed, float32(1,) a step, which the schema does not have",
        ),
        (
            with_array("speed", ONES.astype(int)),
            {"speed": F32},
            "speed is int64(1,) a step, the schema says float32",
        ),
        (with_array("speed", np.ones((3, 2), np.float32)), {"speed": F32}, "speed is float32(2,) a step"),
        (with_array("action", np.ones((3, 7))), {}, "action is float64(7,) a step, the schema says float32(7,)"),
        (with_array("action", np.ones((3, 6), np.float32)), {}, "action is float32(6,) a step"),
        (
            with_array("info.success", ONES),
            {},
            "its result has info.success, float32(1,) a step, which the schema does not have",
        ),
        (with_array("text", np.array(["a"] * 3)), {"text": F32}, "text is string(1,) a step"),
        (with_frames, {}, "is image(2, 6, 3) a step, the schema says image(4, 6, 3)"),
        (without("action"), {}, "its result has no action, which the schema has"),
        (lambda episode: episode, {"speed": F32}, "its result has no speed, which the schema has"),
        (
            lambda episode: episode,
            {"action": None},
            "its result has action, float32(7,) a step, which the schema does not have",
        ),
        (lambda episode: None, {}, "returns NoneType, not an Episode"),
        (lambda e: replace(e, index=np.array([0, 1, 9])), {}, "returns frames that its episode does not have"),
    ],
)
def test_what_a_step_does_not_say_is_refused_with_its_name(
    does: Callable[[vd.Episode], Any], describes: dict[str, vd.Feature | None], problem: str
) -> None:
    with pytest.raises(UsageError) as refused:
        curate(EPISODE, (Step(does, describes),), SCHEMA)
    assert refused.value.code == "E022"
    assert "step Step" in str(refused.value)
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("does", "describes"),
    [
        (lambda episode: episode, {}),
        (lambda episode: episode.take(np.array([0, 2])), {}),
        (with_array("speed", ONES), {"speed": F32}),
        (with_array("speed", ONES[:, None]), {"speed": F32}),
        (with_array("speed", ONES), {"speed": vd.Feature(dtype="float32", shape=())}),
        (with_array("action", np.ones((3, 7))), {"action": vd.Feature(dtype="float64", shape=(7,))}),
        (without("action"), {"action": None}),
        (without("info.success"), {}),
        (with_array("new.name", EPISODE.arrays["info.success"]), {}),
    ],
)
def test_what_it_says_and_what_is_the_sources_affair_passes(
    does: Callable[[vd.Episode], Any], describes: dict[str, vd.Feature | None]
) -> None:
    done = curate(EPISODE, (Step(does, describes),), SCHEMA)
    assert done.schema is not None
    assert {name for name, f in describes.items() if f is not None} <= set(done.schema.features)


class DropFirstStep:
    def apply(self, episode: vd.Episode) -> vd.Episode:
        return episode.take(np.arange(1, len(episode)))


class HTTPSlow2Fast:
    reason = None

    def reject(self, episode: vd.Episode) -> Any:
        return True


class Says:
    def __init__(self, said: Any) -> None:
        self.said = said

    def reject(self, episode: vd.Episode) -> Any:
        return self.said


def test_bucket_and_reason_have_defaults() -> None:
    assert curate(EPISODE, (DropFirstStep(),)).spans[0] == Span(0, 1, "pruned", "drop_first_step")
    assert curate(EPISODE, (HTTPSlow2Fast(),)).reason == "http_slow2_fast"
    assert (bucket_of(vd.steps.CutAfterSuccess()), reason_of(vd.steps.CutAfterSuccess())) == (
        "truncated",
        "after_success",
    )


@pytest.mark.parametrize(
    ("said", "reason"), [(None, ""), (False, ""), (np.False_, ""), (np.True_, "says"), ("a", "a")]
)
def test_a_filter_says_a_reason_or_whether(said: Any, reason: str) -> None:
    assert curate(EPISODE, (Says(said),)).reason == reason


@pytest.mark.parametrize("said", ["", 1, 0, ["a"]])
def test_a_filter_that_says_anything_else_is_refused(said: Any) -> None:
    with pytest.raises(UsageError, match="step Says rejects an episode with"):
        curate(EPISODE, (Says(said),))


def test_a_bucket_that_the_ledger_does_not_have_is_refused() -> None:
    step = DropFirstStep()
    step.bucket = "kept"  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="step DropFirstStep has bucket 'kept'; a bucket is pruned or truncated"):
        curate(EPISODE, (step,))
