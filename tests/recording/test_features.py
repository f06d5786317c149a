"""Features by name: whatever is recorded is read back with its type and shape, or refused where it is given."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import vla_data as vd
from vla_data.core import Episode, Feature
from vla_data.errors import RecordError
from vla_data.media.frames import Frames

RANDOM = np.random.default_rng(0)
TOP = RANDOM.integers(0, 256, (5, 6, 8, 3), dtype=np.uint8)
WRIST = RANDOM.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
STATES = RANDOM.normal(size=(5, 14)).astype(np.float32)
CHUNKS = RANDOM.normal(size=(4, 3, 14))
TOKENS = RANDOM.integers(0, 2048, (4, 6), dtype=np.int32)
FACTS = {"init_hash": "9f3a", "policy_version": 12, "seed": 7, "start": {"cube": [0.1, 0.2]}, "none": None}


def observation(t: int) -> dict[str, Any]:
    return {
        "observation.images.top": TOP[t],
        "observation.images.wrist": WRIST[t],
        "observation.state": STATES[t],
    }


def step(t: int) -> dict[str, Any]:
    return {
        **observation(t),
        "action": STATES[t] * 2,
        "action.chunk": CHUNKS[t],
        "action.tokens": TOKENS[t],
        "action.tokens_mask": TOKENS[t] > 700,
        "log_prob": np.float32(-t - 0.5),
        "value": t / 4,
        "subtask": "reach" if t < 2 else "grasp it",
        "next.reward": np.float32(t),
        "next.success": t == 3,
        "next.terminated": t == 3,
        "next.truncated": np.bool_(False),
    }


def record(writer: vd.RolloutWriter, steps: int = 4, **facts: Any) -> Path:
    episode = writer.episode(task="fold the towel", facts={**FACTS, **facts})
    for t in range(steps):
        episode.add(step(t))
    return episode.end(observation(steps), facts={"solved_at": 3})


def read(folder: Path, **options: Any) -> list[Episode]:
    source = vd.open_source(f"ppo_rollout:{folder}", **options)
    return [source.read(ref) for ref in source.episodes()]


def check_same(got: np.ndarray[Any, Any], want: Any) -> None:
    want = np.asarray(want)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    np.testing.assert_array_equal(got, want)


def pixels(frames: Frames | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    assert isinstance(frames, Frames)
    return np.stack([frames.pixels(t) for t in range(len(frames))])


def test_every_feature_is_read_back_as_it_was(tmp_path: Path) -> None:
    with vd.RolloutWriter(tmp_path, fps=50, robot="aloha") as writer:
        record(writer)
    (got,) = read(tmp_path)
    for name in step(0).keys() - {"observation.images.top", "observation.images.wrist"}:
        check_same(got.arrays[name], np.asarray([step(t)[name] for t in range(4)]))
    np.testing.assert_array_equal(pixels(got.frames["observation.images.top"]), TOP[:4])
    np.testing.assert_array_equal(pixels(got.frames["observation.images.wrist"]), WRIST[:4])
    assert len(got.arrays) + len(got.frames) == len(step(0))
    assert got.task == "fold the towel"
    assert got.meta["episode_metadata"] == {**FACTS, "solved_at": 3}
    assert (got.meta["info_timing"], got.meta["fps"]) == ("after", 50)


def test_what_was_seen_after_the_last_action_is_kept(tmp_path: Path) -> None:
    with vd.RolloutWriter(tmp_path, fps=50) as writer:
        record(writer)
    (got,) = read(tmp_path)
    assert got.final.keys() == observation(0).keys()
    np.testing.assert_array_equal(pixels(got.final["observation.images.top"]), TOP[4:])
    np.testing.assert_array_equal(pixels(got.final["observation.images.wrist"]), WRIST[4:])
    check_same(got.final["observation.state"], STATES[4:])  # type: ignore[arg-type]


def test_numpy_alone_reads_a_file_without_pickle(tmp_path: Path) -> None:
    with vd.RolloutWriter(tmp_path, fps=50, robot="aloha") as writer:
        path = record(writer)
    with np.load(path, allow_pickle=False) as data:
        header = json.loads(str(data["rollout"]))
        check_same(data["observation.state"], STATES)
        check_same(data["action.chunk"], CHUNKS)
        assert len(data["sizes.observation.images.top"]) == 5
    assert (header["version"], header["steps"], header["task"]) == (1, 4, "fold the towel")
    assert header["facts"] == {**FACTS, "solved_at": 3}
    assert (header["schema"]["fps"], header["schema"]["robot"]) == (50, "aloha")
    assert header["schema"]["features"]["action.tokens"]["dtype"] == "int32"


def test_the_same_episode_gives_the_same_bytes_in_whatever_order_it_is_told(tmp_path: Path) -> None:
    with vd.RolloutWriter(tmp_path, fps=50) as writer:
        first = record(writer)
        episode = writer.episode(task="fold the towel", facts=dict(reversed(FACTS.items())))
        for t in range(4):
            episode.add(dict(reversed(step(t).items())))
        second = episode.end(observation(4), facts={"solved_at": 3})
    assert first.read_bytes() == second.read_bytes()


def test_declared_meaning_reaches_the_schema(tmp_path: Path) -> None:
    joints = {"layout": {"joints": list(range(14))}, "kind": "absolute", "joint_unit": "rad"}
    names = tuple(f"joint_{i}" for i in range(14))
    features = {
        "action": Feature(dtype="float32", shape=(14,), names=names, convention=joints),
        "value": Feature(dtype="float32", shape=(1,)),
    }
    with vd.RolloutWriter(tmp_path, fps=50, robot="aloha", features=features) as writer:
        episode = writer.episode(task="fold")
        episode.add({"action": list(range(14)), "value": [0.5], "next.success": False, **observation(0)})
        episode.end()
    source = vd.open_source(f"ppo_rollout:{tmp_path}")
    (got,) = read(tmp_path)
    schema = source.schema(got)
    assert schema.features["action"] == features["action"]
    assert schema.features["value"] == features["value"]
    assert (schema.fps, schema.robot) == (50, "aloha")
    check_same(got.arrays["action"], np.arange(14, dtype=np.float32)[None])
    check_same(got.arrays["value"], np.array([0.5], np.float32))
    image = schema.features["observation.images.top"]
    assert (image.dtype, image.shape) == ("image", (6, 8, 3))
    assert image.convention["time"] == "before_action"


def test_keywords_and_names_may_be_mixed(tmp_path: Path) -> None:
    with vd.RolloutWriter(tmp_path, fps=5) as writer:
        episode = writer.episode(task="lift")
        for t in range(2):
            episode.add(
                {"observation.images.wrist": WRIST[t], "log_prob": -0.5},
                image=TOP[t],
                action=[0, 0, 0, 0, 0, 0, 1],
                success=t == 1,
                reward=t,
                state=[1, 2],
                info={"contacts": t},
            )
        episode.end({"observation.images.wrist": WRIST[2]}, image=TOP[2], state=[3, 4])
    source = vd.open_source(f"ppo_rollout:{tmp_path}")
    (got,) = read(tmp_path)
    check_same(got.arrays["next.success"], [False, True])
    check_same(got.arrays["next.reward"], [0, 1])
    check_same(got.arrays["info.contacts"], [0, 1])
    check_same(got.arrays["action"], np.array([[0, 0, 0, 0, 0, 0, 1]] * 2, np.float32))
    assert got.final.keys() == {"observation.images.primary", "observation.images.wrist", "observation.state"}
    schema = source.schema(got)
    assert schema.features["action"].convention["translation_unit"] == "m"
    assert "info.contacts" not in schema.features
    assert "info.contacts" in vd.open_source(f"ppo_rollout:{tmp_path}", info=True).schema(got).features


def test_facts_alone_keep_what_keywords_mean(tmp_path: Path) -> None:
    with vd.RolloutWriter(tmp_path, fps=5) as writer:
        episode = writer.episode(task="lift", facts={"seed": np.int64(3)})
        episode.add(image=TOP[0], action=np.ones(7), success=True)
        episode.end()
    (got,) = read(tmp_path)
    assert got.meta["episode_metadata"] == {"seed": 3}
    assert got.arrays.keys() == {"action", "next.success"}


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "another shape": (
        {"action": np.zeros(13, np.float32)},
        "E203",
        r"step 1: action has shape \(13,\), not \(14,\)",
    ),
    "another type": (
        {"action": np.zeros(14)},
        "E203",
        "step 1: action is float64, and float32 in step 0; give one",
    ),
    "flags for numbers": ({"value": True}, "E203", "step 1: value is of bool, not of numbers"),
    "a float for integers": ({"action.tokens": [0.5] * 6}, "E203", "step 1: action.tokens is float64, and int32"),
    "a chunk not finite": ({"action.chunk": CHUNKS[0] * np.nan}, "E201", r"action.chunk\[0, 0\] is nan"),
    "a number not finite": ({"log_prob": np.float32(-np.inf)}, "E201", "step 1: log_prob is -inf, not a finite"),
    "a camera of another size": (
        {"observation.images.wrist": WRIST[0][:3]},
        "E203",
        "step 1: observation.images.wrist is 3x4, and the ones before are 4x4",
    ),
    "a camera of floats": (
        {"observation.images.top": TOP[0] / 255},
        "E203",
        "step 1: observation.images.top is of f",
    ),
    "a reward of two": ({"next.reward": [0.0, 1.0]}, "E203", r"step 1: next.reward has shape \(2,\), not \(\)"),
    "a success of 1.0": ({"next.success": 1.0}, "E205", "step 1: next.success is 1.0, not True or False"),
    "a text for a number": ({"value": "high"}, "E203", "step 1: value is of <U4, not of numbers"),
    "a number for a text": ({"subtask": 3}, "E203", "step 1: subtask is a int, not a text"),
    "a text with NUL": ({"subtask": "a\0b"}, "E212", "step 1: subtask has a NUL"),
    "an object": ({"value": {}}, "E203", "step 1: value is of object, not of numbers"),
    "a new one": ({"extra": 1}, "E206", "step 1: extra not in the steps before; give each in all steps or none"),
    "a path": ({"a/b": 1}, "E203", "step 1: 'a/b' is not a name for a feature"),
    "a name of ours": ({"sizes.top": 1}, "E203", "step 1: 'sizes.top' is not a name for a feature"),
    "a name of LeRobot's": ({"frame_index": 1}, "E203", "step 1: LeRobot writes its own frame_index"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_features_are_refused_where_they_are_given_and_change_nothing(case: str, tmp_path: Path) -> None:
    change, code, message = BAD[case]
    with vd.RolloutWriter(tmp_path, fps=50) as writer:
        episode = writer.episode(task="fold")
        episode.add(step(0))
        with pytest.raises(RecordError, match=message) as caught:
            episode.add({**step(1), **change})
        assert (caught.value.code, len(str(caught.value).splitlines())) == (code, 1)
        assert isinstance(caught.value, ValueError)
        assert len(episode) == 1
        episode.add(step(1))
        episode.end()
    (got,) = read(tmp_path)
    assert len(got) == 2


def test_a_missing_feature_is_named(tmp_path: Path) -> None:
    episode = vd.RolloutWriter(tmp_path, fps=50).episode(task="fold")
    episode.add(step(0))
    less = step(1)
    del less["log_prob"], less["observation.images.wrist"]
    with pytest.raises(
        RecordError, match=r"E206 .*: log_prob, observation.images.wrist missing; give each in all"
    ):
        episode.add(less)


END: dict[str, tuple[dict[str, Any], str]] = {
    "an action": ({"action": STATES[0]}, "E206 .*the end: action is not seen after the last action; only observ"),
    "an unknown camera": (
        {"observation.images.left": TOP[0]},
        "E206 .*observation.images.left is not .*have none",
    ),
    "a state of another size": (
        {"observation.state": STATES[0][:3]},
        r"E203 .*the end: .* shape \(3,\), not \(14,\)",
    ),
    "a camera of another size": ({"observation.images.top": WRIST[0]}, "E203 .*the end: .*top is 4x4, and"),
}


@pytest.mark.parametrize("case", END)
def test_bad_ends_are_refused_and_can_be_put_right(case: str, tmp_path: Path) -> None:
    features, message = END[case]
    with vd.RolloutWriter(tmp_path, fps=50) as writer:
        episode = writer.episode(task="fold")
        episode.add(step(0))
        with pytest.raises(RecordError, match=message):
            episode.end(features)
        episode.end()
    assert read(tmp_path)[0].final == {}


BAD_FACTS: dict[str, tuple[Any, str]] = {
    "an array": ({"start": np.zeros(3)}, r"E203 .*facts\['start'\] is a ndarray.*\.tolist\(\)"),
    "NaN": ({"a": {"b": [1.0, float("nan")]}}, r"E201 .*facts\['a'\]\['b'\]\[1\] is nan"),
    "a number as a name": ({"a": {1: 2}}, r"E203 .*facts\['a'\] has the key 1, which is not a text"),
    "an object": ({"a": object()}, r"E203 .*facts\['a'\] is a object, which JSON can't hold"),
    "half a character": ({"a": "\ud800"}, r"E212 .*facts\['a'\] has a lone surrogate"),
    "a list": ([1], "E203 .*facts is a list, not a dictionary"),
    "too much": ({"a": "x" * (1 << 20)}, "E107 .*the facts take"),
}


@pytest.mark.parametrize("case", BAD_FACTS)
def test_bad_facts_are_refused(case: str, tmp_path: Path) -> None:
    facts, message = BAD_FACTS[case]
    with pytest.raises(RecordError, match=message):
        vd.RolloutWriter(tmp_path, fps=50).episode(task="fold", facts=facts)


def test_a_fact_is_told_once(tmp_path: Path) -> None:
    episode = vd.RolloutWriter(tmp_path, fps=50).episode(task="fold", facts={"seed": 1})
    episode.add(step(0))
    with pytest.raises(RecordError, match=r"E004 .*began with the facts seed"):
        episode.end(facts={"seed": 2})


# Any set of features


KINDS = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
]
NAMES = st.from_regex(r"(observation|action|next|extra)\.[a-z_]{1,8}", fullmatch=True).filter(
    lambda name: (
        name not in ("next.success", "next.done", "next.terminated", "next.truncated", "next.reward")
        and name != "observation.image"
    )
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab é", max_size=3), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def rows(draw: st.DrawFn, count: int) -> list[Any]:
    """``count`` values of one feature."""
    if draw(st.booleans()):
        alphabet = st.characters(exclude_characters="\0", exclude_categories=("Cs",))
        return draw(st.lists(st.text(alphabet, max_size=6), min_size=count, max_size=count))
    dtype = np.dtype(draw(st.sampled_from(KINDS)))
    shape = draw(st.sampled_from([(), (1,), (2,), (3, 2), (2, 1, 3), (4, 4, 3)]))
    finite = hnp.from_dtype(dtype, allow_nan=False, allow_infinity=False)
    return list(draw(hnp.arrays(dtype, (count, *shape), elements=finite)))


@st.composite
def episodes(draw: st.DrawFn) -> tuple[dict[str, list[Any]], dict[str, list[Any]], set[str], dict[str, Any]]:
    """Features and cameras with T+1 rows each, which of them are seen at the end, and facts."""
    steps = draw(st.integers(1, 4))
    arrays = {name: draw(rows(steps + 1)) for name in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))}
    cameras = {}
    for number in range(draw(st.integers(0, 2))):
        size = (draw(st.integers(1, 6)), draw(st.integers(1, 6)), 3)
        cameras[f"observation.images.c{number}"] = list(draw(hnp.arrays(np.uint8, (steps + 1, *size))))
    seen = [name for name in (*arrays, *cameras) if name.startswith("observation.")]
    last = set(draw(st.lists(st.sampled_from(seen), unique=True))) if seen else set()
    return arrays, cameras, last, draw(st.dictionaries(st.text("abc_", min_size=1, max_size=3), JSON, max_size=3))


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(episodes())
def test_any_set_of_features_is_read_back_exactly(
    example: tuple[Mapping[str, list[Any]], Mapping[str, list[Any]], set[str], Mapping[str, Any]],
) -> None:
    arrays, cameras, last, facts = example
    given_rows = {**arrays, **cameras}
    steps = len(next(iter(arrays.values()))) - 1
    with tempfile.TemporaryDirectory() as folder:
        with vd.RolloutWriter(folder, fps=10) as writer:
            episode = writer.episode(task="any", facts=facts)
            for t in range(steps):
                episode.add({name: values[t] for name, values in given_rows.items()})
            episode.end({name: given_rows[name][-1] for name in last})
        (got,) = read(Path(folder))
        source = vd.open_source(f"ppo_rollout:{folder}")
        sink = vd.open_sink(Path(folder, "again"), format="plain_rollout")
        Path(folder, "plain").mkdir()
        Path(folder, "plain", "a.npz").write_bytes(b"".join(sink.encode(got, source.schema(got)).blob))
        (sanitized,) = read(Path(folder, "plain"))
    for found in (got, sanitized):
        assert (found.arrays.keys(), found.frames.keys()) == (arrays.keys(), cameras.keys())
        assert found.final.keys() == last
        assert (found.meta.get("episode_metadata", {}), found.task) == (facts, "any")
        for name, values in arrays.items():
            check_same(found.arrays[name], np.asarray(values[:steps], dtype=found.arrays[name].dtype))
            assert found.arrays[name].dtype.kind == "U" or found.arrays[name].dtype == values[0].dtype
            if name in last:
                np.testing.assert_array_equal(found.final[name], np.asarray(values[steps:]))  # type: ignore[arg-type]
        for name, values in cameras.items():
            np.testing.assert_array_equal(pixels(found.frames[name]), values[:steps])
            if name in last:
                np.testing.assert_array_equal(pixels(found.final[name]), values[steps:])
