"""Recorded rollouts from strangers: one line, or an episode whose parts fit together."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vla_data as vd
from converters.rollouts.source import PpoRolloutSource
from tests.recording.test_features import record
from vla_data.errors import CODES, DataError
from vla_data.recording.npz import npz_pieces
from vla_data.safety.text import show

SOURCE = PpoRolloutSource(root=Path())
Members = dict[str, Any]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Members:
    writer = vd.RolloutWriter(tmp_path_factory.mktemp("good"), fps=50, robot="aloha")
    with np.load(record(writer)) as data:
        return {name: data[name] for name in data.files}


def parse(members: Members) -> vd.Episode:
    return SOURCE.parse("a.npz", b"".join(npz_pieces(members)), "")


def told(members: Members, **changes: Any) -> Members:
    """The members with another header."""
    header = json.loads(str(members["rollout"])) | changes
    return {**members, "rollout": np.asarray(json.dumps(header))}


def with_feature(members: Members, name: str, **changes: Any) -> Members:
    schema = json.loads(str(members["rollout"]))["schema"]
    schema["features"][name] |= changes
    return told(members, schema=schema)


CASES: dict[str, tuple[Any, str]] = {
    "not valid JSON": (lambda m: {**m, "rollout": np.asarray("{")}, "E141"),
    "an array for a header": (lambda m: {**m, "rollout": np.zeros(3)}, "E141"),
    "another version": (lambda m: told(m, version=2), "E203"),
    "no steps": (lambda m: told(m, steps=0), "E207"),
    "so many steps": (lambda m: told(m, steps=10**15), "E204"),
    "steps and no features": (
        lambda m: told(m, steps=10**15, schema={"features": {}, "fps": 5, "robot": None}),
        "E141",
    ),
    "a rate that is none": (
        lambda m: told(m, schema=json.loads(str(m["rollout"]))["schema"] | {"fps": "5"}),
        "E141",
    ),
    "half a character in a fact": (lambda m: told(m, facts={"a": "\ud800"}), "E212"),
    "no instruction": (lambda m: told(m, task=""), "E211"),
    "a member too many": (lambda m: {**m, "other": np.zeros(4)}, "E206"),
    "a member too few": (lambda m: {k: v for k, v in m.items() if k != "action"}, "E206"),
    "a row too few": (lambda m: {**m, "action": m["action"][:3]}, "E204"),
    "another type": (lambda m: {**m, "action": m["action"].astype(np.float64)}, "E203"),
    "not finite": (lambda m: {**m, "action": m["action"] * np.float32(np.nan)}, "E201"),
    "far out": (lambda m: {**m, "action": m["action"] * np.float32(1e30)}, "E202"),
    "a success of numbers": (
        lambda m: with_feature({**m, "next.success": np.zeros(4, np.int64)}, "next.success", dtype="int64"),
        "E205",
    ),
    "sizes that overlap": (
        lambda m: {**m, "sizes.observation.images.top": np.array([-1, 5, 5, 5, 5])},
        "E204",
    ),
    "sizes that overflow": (
        lambda m: {**m, "sizes.observation.images.top": np.array([2**62, 2**62, 2**62, 2**62, 5])},
        "E204",
    ),
    "an image that is none": (
        lambda m: {**m, "observation.images.top": np.zeros_like(m["observation.images.top"])},
        "E109",
    ),
    "an image of another size": (lambda m: with_feature(m, "observation.images.top", shape=[8, 6, 3]), "E203"),
    "no convention": (lambda m: with_feature(m, "action", convention={"kind": "guess"}), "E232"),
    "a last row of nothing": (lambda m: told(m, final=["other"]), "E206"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_no_recorder_wrote_is_refused_in_one_line(case: str, good: Members) -> None:
    change, code = CASES[case]
    with pytest.raises(DataError) as caught:
        parse(change(copy.deepcopy(good)))
    assert (caught.value.code, caught.value.message.splitlines()) == (code, [caught.value.message])


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a JSON value, with every key or position."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


ODD = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        2**70,
        1.5,
        "",
        "x",
        "../x",
        "a\x1b[31m",
        "é" * 200,
        [],
        [0],
        [[]],
        {},
        {"a": 1},
        "image",
        "float32",
    ]
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_any_other_header_is_refused_or_fits_its_arrays(good: Members, data: st.DataObject) -> None:
    header = json.loads(str(good["rollout"]))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(list(places(header))))
        if data.draw(st.booleans()) and isinstance(container, dict):
            del container[key]
        else:
            container[key] = copy.deepcopy(data.draw(ODD))
    try:
        episode = parse({**good, "rollout": np.asarray(json.dumps(header))})
        schema = SOURCE.schema(episode)
    except DataError as error:
        assert error.code in CODES
        assert show(error.message) == error.message.replace("\\", "\\\\"), error.message
        return
    assert len(episode) == 4
    for name, feature in schema.features.items():
        if feature.dtype != "image":
            assert feature.shape == (episode.arrays[name].shape[1:] or (1,))
    assert schema.to_text() == vd.Schema.from_text(schema.to_text()).to_text()
