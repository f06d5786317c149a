"""Compat mode against an independent statement of what RL4VLA's builder does, in memory and through files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from converters.rlds.tfrecord import records
from tests.rollouts import MOVE, STILL, episode, rollout, save
from vla_data.core import Episode
from vla_data.media.frames import Frames
from vla_data.steps import Rl4vlaCompat

CLOSE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
FLOAT32_ABOVE = 0.07
"""Its float32 is above the number itself, as that of 0.01 and 0.06 is not."""


def upstream(
    action: Any, info: Any, *, pos: float | None = 0.01, rot: float | None = 0.06, streak: int = 6
) -> list[int]:
    """Source indices that RL4VLA's builder writes; a reading of its rule row by row, not of our code.

    A norm is a float32 (``np.linalg.norm`` of a float32 row) and is compared in double precision, as the
    builder's NumPy 1 does with a scalar and a Python number.
    """
    kept: list[int] = []
    for i in range(len(action)):
        p = float(np.linalg.norm(action[i][:3]))
        r = float(np.linalg.norm(action[i][3:6]))
        if pos is None and rot is None:
            keep = True
        elif pos is None:
            keep = r > rot
        elif rot is None:
            keep = p > pos
        else:
            keep = p > pos or r > rot
        if i > 0 and action[i - 1][6] != action[i][6]:
            keep = True
        if keep:
            kept.append(i)
    written: list[int] = []
    count = 0
    for i in range(len(kept)):
        written.append(kept[i])
        count = count + 1 if info[i] else 0  # of raw step i, which is not kept[i]
        if count >= streak:
            break
    return written


POOL = np.array(
    [
        0.0,
        0.01,
        -0.01,
        0.06,
        -0.06,
        np.nextafter(np.float32(0.01), np.float32(1)),
        np.nextafter(np.float32(0.01), np.float32(0)),
        np.nextafter(np.float32(0.06), np.float32(1)),
        np.nextafter(np.float32(0.06), np.float32(0)),
        0.006,
        0.008,
        0.036,
        0.048,
        0.01 / np.sqrt(2),
        0.01 / np.sqrt(3),
        0.06 / np.sqrt(3),
        0.005,
        0.03,
        0.2,
    ],
    dtype=np.float32,
)
"""Values on and beside the thresholds, and such as meet them together."""


def random_episode(random: np.random.Generator) -> tuple[Episode, list[bool]]:
    steps = int(random.integers(1, 61))
    action = np.zeros((steps, 7), dtype=np.float32)
    # Often a single component is set, so that the norm is exactly that value.
    for row in action:
        for _ in range(int(random.integers(0, 4))):
            row[random.integers(0, 6)] = POOL[random.integers(0, len(POOL))]
    gripper, rate = random.choice([-1.0, 1.0]), random.choice([0.0, 0.05, 0.3])
    switches = random.random(steps) < rate
    action[:, 6] = gripper * np.where(np.cumsum(switches) % 2, -1, 1)
    stickiness, flag, info = random.choice([0.0, 0.7, 0.95]), bool(random.random() < 0.3), []
    for _ in range(steps):
        flag = flag if random.random() < stickiness else bool(random.random() < 0.6)
        info.append(flag)
    pixel = np.zeros((1, 1, 3), np.uint8)
    # The aligned flags are the opposite of the recorded ones: compat mode must not look at them.
    made = Episode(
        id="random",
        arrays={"action": action, "info.success": np.array(info), "next.success": ~np.array(info)},
        frames={"observation.images.primary": Frames((pixel,) * steps, 1, 1)},
        task="x",
        index=np.arange(steps),
    )
    return made, info


# In memory


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_random_episodes_keep_what_upstream_keeps(count: int) -> None:
    random = np.random.default_rng(20250614)
    compat = Rl4vlaCompat()
    differ, cut, pruned = [], 0, 0
    for number in range(count):
        made, info = random_episode(random)
        expected = upstream(made.arrays["action"], info)
        if compat.apply(made).index.tolist() != expected:
            differ.append(number)
        cut += compat.successful(made)
        pruned += len(expected) < len(made)

    assert [] == differ
    assert cut > count / 5  # the sample is worth something
    assert pruned > count / 2


@pytest.mark.parametrize(
    "options", [{"pos": None}, {"rot": None}, {"pos": None, "rot": None}, {"pos": 0.005, "rot": 0.03}]
)
def test_other_thresholds_keep_what_upstream_keeps(options: Mapping[str, Any]) -> None:
    random = np.random.default_rng(7)
    compat = Rl4vlaCompat(**options)
    differ = []
    for number in range(500):
        made, info = random_episode(random)
        if compat.apply(made).index.tolist() != upstream(made.arrays["action"], info, **options):
            differ.append(number)

    assert [] == differ


@pytest.mark.parametrize("streak", [1, 2, 10])
def test_other_streaks_cut_where_upstream_cuts(streak: int) -> None:
    random = np.random.default_rng(8)
    compat = Rl4vlaCompat(min_steps=streak)
    differ = []
    for number in range(500):
        made, info = random_episode(random)
        if compat.apply(made).index.tolist() != upstream(made.arrays["action"], info, streak=streak):
            differ.append(number)

    assert [] == differ


def test_a_threshold_that_float32_rounds_up_is_compared_in_double_precision() -> None:
    """Upstream runs on NumPy 1 (TensorFlow 2.13 wants no other), where float32(0.07) > 0.07 is true."""
    action = np.array([(FLOAT32_ABOVE, 0, 0, 0, 0, 0, 1)], np.float32)

    expected = upstream(action, [False], pos=FLOAT32_ABOVE)

    assert expected == Rl4vlaCompat(pos=FLOAT32_ABOVE).apply(episode(action, [0])).index.tolist()


def test_the_ledger_of_a_random_episode_has_every_frame_once() -> None:
    random = np.random.default_rng(9)
    for _ in range(500):
        made, info = random_episode(random)
        result = vd.curate(made, (Rl4vlaCompat(),))
        kept = [t for s in result.spans if s.bucket == "kept" for t in range(s.start, s.stop)]

        assert upstream(made.arrays["action"], info) == kept


# Through files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "rollouts"


def build(folder: Path, **options: Any) -> tuple[vd.Report, dict[str, dict[str, Any]]]:
    """The report, and each published episode's features by the name of its file."""
    target = folder.parent / "data"
    source = vd.open_source(f"ppo_rollout:{folder}")
    steps = vd.recipes.ppo_sft(compat="rl4vla", **options)
    report = vd.run(source, steps, vd.open_sink(target, format="rlds", name="x"), workers=1)
    out = {}
    for file in sorted(target.glob("*.tfrecord-*")):
        with file.open("rb") as handle:
            for record in records(handle, name=file.name):
                features = parse_example(record)
                out[features["episode_metadata/file_path"][0].decode()] = features
    return report, out


def actions_of(features: Mapping[str, Any]) -> list[list[float]]:
    return np.asarray(features["steps/action"], np.float32).reshape(-1, 7).tolist()


def float32(rows: Any) -> list[list[float]]:
    return np.asarray(rows, np.float32).reshape(-1, 7).tolist()


def numbered(steps: int, still: tuple[int, ...] = ()) -> list[list[float]]:
    """Actions that differ from each other; those of ``still`` are below the threshold."""
    return [[(0.001 if t in still else 0.02) + t / 10_000, 0, 0, 0, 0, 0, 1] for t in range(steps)]


def test_the_misread_streak_through_files(folder: Path) -> None:
    actions = numbered(12, still=(1, 3))
    save(folder, "a.npy", rollout(actions=np.array(actions, np.float32), success=[t >= 4 for t in range(12)]))

    _, written = build(folder)

    expected = [actions[t] for t in (0, 2, 4, 5, 6, 7, 8, 9, 10, 11)]
    assert float32(expected) == actions_of(written["a.npy"])


def test_an_episode_that_never_succeeds_is_kept_whole(folder: Path) -> None:
    actions = numbered(9)
    save(folder, "a.npy", rollout(actions=np.array(actions, np.float32), success=[False] * 9))

    report, written = build(folder)

    assert float32(actions) == actions_of(written["a.npy"])
    assert (1, 0, 1) == tuple(
        report.counts[name] for name in ("failed_episodes", "successful_episodes", "published_episodes")
    )


def test_an_episode_that_is_pruned_to_nothing_is_written_without_steps(folder: Path) -> None:
    save(folder, "still.npy", rollout(actions=np.array([STILL] * 8, np.float32)))
    save(folder, "moving.npy", rollout(T=8))

    report, written = build(folder)

    assert ([], [0], [8]) == (
        actions_of(written["still.npy"]),
        written["still.npy"]["episode_metadata/filtered_length"],
        written["still.npy"]["episode_metadata/original_length"],
    )
    assert {"published"} == {record.status for record in report.ledger.records}


def test_the_image_after_the_last_action_is_not_written(folder: Path) -> None:
    save(folder, "a.npy", rollout(T=5, success=[False] * 5, images="jpeg", extra_image=True))

    _, written = build(folder)

    images = rollout(T=5, success=[False] * 5, images="jpeg")["image"]
    assert [item.tobytes() for item in images[:5]] == written["a.npy"]["steps/observation/image"]


def test_images_are_those_of_the_kept_actions(folder: Path) -> None:
    made = rollout(actions=np.array(numbered(12, still=(1, 3)), np.float32), success=[False] * 12, images="jpeg")
    save(folder, "a.npz", made)

    _, written = build(folder)

    expected = [made["image"][t].tobytes() for t in (0, 2, 4, 5, 6, 7, 8, 9, 10, 11)]
    assert expected == written["a.npz"]["steps/observation/image"]


def test_actions_in_lists_are_read_as_float32(folder: Path) -> None:
    """0.010000000001 is above the threshold, and its float32 is not."""
    actions = [[0.010000000001, 0, 0, 0, 0, 0, 1.0], [0.1, 0, 0, 0, 0, 0, 1.0], [0, 0, 0, 0, 0, 0, -1.0]]
    save(folder, "a.npy", rollout(actions=actions, success=[False] * 3))

    _, written = build(folder)

    assert float32(actions[1:]) == actions_of(written["a.npy"])


def test_flags_recorded_before_the_action_are_not_shifted(folder: Path) -> None:
    """The motion planner's: aligned, the streak of two ends a step earlier."""
    made = rollout(T=6, success=[False, False, True, True, True, True], extra_image=False)
    save(folder, "success_a.npz", {**made, "is_image_encode": False})

    report, written = build(folder, min_success_steps=2)

    assert "before" == report.ledger.records[0].meta["info_timing"]
    assert float32(made["action"][:4]) == actions_of(written["success_a.npz"])


def test_a_close_command_at_step_0_is_dropped(folder: Path) -> None:
    save(folder, "a.npy", rollout(actions=np.array([CLOSE, CLOSE, MOVE], np.float32), success=[False] * 3))

    _, written = build(folder)

    assert float32([MOVE]) == actions_of(written["a.npy"])


def test_the_frames_of_a_folder_add_up_and_have_upstreams_lengths(folder: Path) -> None:
    random = np.random.default_rng(10)
    expected = {}
    for number in range(12):
        made, info = random_episode(random)
        action = made.arrays["action"]
        save(folder, f"{number}.npz", rollout(actions=action, success=info, size=(8, 8), seed=number))
        expected[f"{number}.npz"] = float32(action[upstream(action, info)])

    report, written = build(folder)

    assert expected == {name: actions_of(features) for name, features in written.items()}
    assert report.counts["kept"] == sum(map(len, expected.values()))


def counts_with_an_empty_episode(folder: Path, format: str) -> Mapping[str, float]:
    save(folder, "still.npy", rollout(actions=np.array([STILL] * 8, np.float32)))
    save(folder, "moving.npy", rollout(T=5))
    sink = vd.open_sink(folder.parent / "data", format=format)
    return vd.run(vd.open_source(folder), vd.recipes.ppo_sft(compat="rl4vla"), sink, workers=1).counts


def test_an_emptied_episode_is_rejected_where_the_format_can_not_hold_it(folder: Path) -> None:
    """That is a rule's doing and no fault of the input, so nothing is quarantined."""
    counts = counts_with_an_empty_episode(folder, "lerobot")

    assert (13, 5, 8, 0) == (counts["source"], counts["kept"], counts["rejected"], counts["failed"])


def test_an_episode_without_steps_does_not_end_a_run_into_plain_rollouts(folder: Path) -> None:
    assert 13 == counts_with_an_empty_episode(folder, "plain_rollout")["source"]


# A reader of tf.train.Example for these tests


def parse_example(data: bytes) -> dict[str, Any]:
    """Feature name -> list of byte strings, floats or integers."""
    out: dict[str, Any] = {}
    for _, features in fields(data):
        for _, entry in fields(features):
            (_, name), (_, feature) = fields(entry)
            for kind, values in fields(feature):
                out[name.decode()] = parse_values(kind, values)
    return out


def parse_values(kind: int, data: bytes) -> list[Any]:
    if kind == 1:
        return [item for _, item in fields(data)]
    packed = b"".join(item for _, item in fields(data))
    if kind == 2:
        return np.frombuffer(packed, "<f4").tolist()
    numbers, at = [], 0
    while at < len(packed):
        number, at = varint(packed, at)
        numbers.append(number)
    return numbers


def fields(data: bytes) -> list[tuple[int, bytes]]:
    """(number, content) of each length-delimited field; there are no others here."""
    out, at = [], 0
    while at < len(data):
        key, at = varint(data, at)
        assert key & 7 == 2
        size, at = varint(data, at)
        out.append((key >> 3, data[at : at + size]))
        at += size
    return out


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at
