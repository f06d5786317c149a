"""Keys of a rollout beside those of every collector: cameras and numbers are kept, the rest is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from converters.rollouts.source import PpoRolloutSource
from tests.lerobot_sets import Here
from tests.rollouts import rollout, save
from vla_data.core import Episode
from vla_data.core.wanted import Unwanted
from vla_data.errors import DataError
from vla_data.steps.features import SelectFeatures

T = 6
PIXELS = np.random.default_rng(1).integers(0, 256, (T + 1, 24, 32, 3), dtype=np.uint8)
ROWS = np.random.default_rng(2).normal(size=(T + 1, 4))


def read(
    folder: Path, *, steps: tuple[Any, ...] = (), options: dict[str, Any] | None = None, **more: Any
) -> Episode:
    folder.mkdir(exist_ok=True)
    save(folder, "a.npz", {**rollout(T), **more})
    source = PpoRolloutSource(root=folder, **(options or {}))
    opened = source.without(Unwanted(steps)) if steps else source
    return opened.read(opened.episodes()[0])


@pytest.mark.parametrize(
    ("value", "count"),
    [(PIXELS, T + 1), (list(PIXELS), T + 1), (PIXELS[:T], T), (rollout(T, images="jpeg")["image"], T + 1)],
)
def test_another_camera_is_a_camera(tmp_path: Path, value: Any, count: int) -> None:
    episode = read(tmp_path, wrist=value)
    frames = episode.frames["observation.images.wrist"]
    assert len(frames) == T
    first = value[0]
    if isinstance(first, np.ndarray) and first.ndim == 3:
        assert np.array_equal(frames.pixels(0), first)
    else:
        assert frames.items[0] == (first.tobytes() if isinstance(first, np.ndarray) else first)
    assert ("observation.images.wrist" in episode.final) == (count > T)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("form", [np.asarray, list, lambda rows: [list(row) for row in rows]])
def test_rows_of_numbers_are_kept_with_their_values(tmp_path: Path, kind: Any, form: Any) -> None:
    rows = (ROWS * 3).astype(kind)
    episode = read(tmp_path, proprio=form(rows), force=form(rows[:T]), reward=rows[:T, 0])
    assert np.array_equal(episode.arrays["observation.proprio"], rows[:T])
    assert np.array_equal(episode.final["observation.proprio"], rows[T:])
    assert np.array_equal(episode.arrays["force"], rows[:T])
    assert np.array_equal(episode.arrays["reward"], rows[:T, 0])
    assert {"taken_as_of_the_action:force", "taken_as_of_the_action:reward"} <= set(episode.notes)


@pytest.mark.parametrize("value", [{"a": 1}, "text", 3, np.zeros((3, 2)), [[1.0], [1.0, 2.0]], None, [{}] * T])
def test_anything_else_is_left_out_by_name(tmp_path: Path, value: Any) -> None:
    episode = read(tmp_path, odd=value)
    assert "left_out_as_unknown:odd" in episode.notes
    assert not [name for name in [*episode.arrays, *episode.frames] if "odd" in name]


def test_a_camera_that_can_not_be_read_names_itself_and_is_left_out_on_request(tmp_path: Path) -> None:
    bad = [*PIXELS[:T], PIXELS[0][:5]]
    with pytest.raises(DataError, match=r"wrist: .*--drop observation.images.wrist"):
        read(tmp_path, wrist=bad)
    drop = SelectFeatures(drop=("observation.images.wrist", "observation.state"))
    episode = read(tmp_path, steps=(drop,), wrist=bad, state=[{"a": 1}] * T)
    assert {"left_out:observation.images.wrist", "left_out:observation.state"} <= set(episode.notes)


@pytest.mark.parametrize("key", ["language_instruction", "task_description", "lang", "prompt", "task"])
def test_an_instruction_under_another_name(tmp_path: Path, key: str) -> None:
    episode = read(tmp_path, instruction="", **{key: "lift it"})
    assert episode.task == "lift it"
    assert f"instruction_of:{key}" in episode.notes
    assert read(tmp_path, **{key: "lift it"}).task == rollout(T)["instruction"]


def test_an_instruction_for_each_step(tmp_path: Path) -> None:
    assert read(tmp_path, instruction=["a"] * T).task == "a"
    episode = read(tmp_path, instruction=["a"] * 2 + ["b"] * (T - 2))
    assert episode.arrays["task"].tolist() == ["a"] * 2 + ["b"] * (T - 2)
    source = PpoRolloutSource(root=tmp_path)
    assert "task" not in source.schema(replace(episode)).features
    with pytest.raises(DataError, match="a list of 3 texts"):
        read(tmp_path, instruction=["a"] * 3)


@pytest.mark.parametrize("images", ["arrays", "jpeg", "png", "pil"])
def test_a_sanitized_rollout_has_every_key_again(tmp_path: Path, images: Any) -> None:
    made = rollout(T, images=images)
    texts = ["a"] * 2 + ["b"] * (T - 2)
    more = {"wrist": made["image"], "proprio": ROWS, "force": ROWS[:T], "instruction": texts, "state": ROWS}
    before = read(tmp_path / "in", **{"image": made["image"], **more})
    source = PpoRolloutSource(root=tmp_path / "in")
    vd.run(source, (), vd.open_sink(tmp_path / "out", format="plain_rollout"), engine=Here())
    again = PpoRolloutSource(root=tmp_path / "out")
    after = again.read(again.episodes()[0])
    assert after.arrays.keys() == before.arrays.keys()
    for name, array in before.arrays.items():
        assert np.array_equal(after.arrays[name], array), name
    assert list(after.frames) == list(before.frames)
    for name, frames in before.frames.items():
        assert all(np.array_equal(after.frames[name].pixels(t), frames.pixels(t)) for t in range(T)), name
    assert after.final.keys() == before.final.keys()
    with np.load(tmp_path / "out/a.npz", allow_pickle=False) as plain:
        assert {"wrist", "proprio", "force"} <= set(plain.files)


@pytest.mark.parametrize("text", ["pick\nplace", "pick it\n", "pick\tplace", "x" * 3000])
def test_instructions_may_have_lines_and_length_as_in_every_format(tmp_path: Path, text: str) -> None:
    assert read(tmp_path / "in", instruction=text).task == text


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([{"image": 1, "action": 2, "info": 3}] * 3, "a list of 3 dictionaries .*several rollouts"),
        ([{"image": 1, "state": 2, "action": 3}] * 4, "a list of 4 dictionaries .*RLDS builders"),
        (
            {**rollout(T), "info": [{"is_success": True}] * T},
            r"missing key info\[0\]\.success; .* has is_succ",
        ),
        (
            {k: v for k, v in rollout(T).items() if k != "info"},
            "missing key 'info'; the rollout has image",
        ),
    ],
)
def test_what_a_file_has_in_place_of_a_rollout_is_said(tmp_path: Path, value: Any, says: str) -> None:
    held = np.empty((), dtype=object)
    held[()] = value
    np.save(tmp_path / "a.npy", np.array(value, dtype=object) if isinstance(value, list) else held)
    source = PpoRolloutSource(root=tmp_path)
    with pytest.raises(DataError, match=f"E206 missing-key: .*{says}"):
        source.read(source.episodes()[0])
