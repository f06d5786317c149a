"""Every column of the table, against figures done by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.rollouts import CAMERA, MOVE, STILL, episode
from vla_data.actions import Convention, preset
from vla_data.core import Feature, Schema
from vla_data.measuring import actions, motion, pictures
from vla_data.measuring.gauge import Gauge
from vla_data.measuring.likeness import digest
from vla_data.measuring.looks import looks
from vla_data.measuring.motion import Scale
from vla_data.measuring.row import COLUMNS, Row
from vla_data.media import images
from vla_data.media.frames import ClipFrame, Frames

LAYOUT = {"translation": (0, 1, 2), "rotation": (3, 4, 5), "gripper": (6,)}
DELTA = Convention(layout=LAYOUT, kind="delta", rotation="rotvec", gripper_open=1.0, gripper_closed=-1.0)
METRES = replace(DELTA, translation_unit="m", rotation_unit="rad")
POSE = Convention(layout={"translation": (0, 1, 2)}, kind="absolute", translation_unit="cm")


def row(id: str, **more: object) -> Row:
    return replace(Row(position=0, episode=id, steps=30, digest=id), **more)  # type: ignore[arg-type]


def flat(*brightness: int, size: tuple[int, int] = (16, 18)) -> Frames:
    return Frames(tuple(np.full((*size, 3), value, np.uint8) for value in brightness), *size)


def test_idle_steps_of_deltas_and_of_targets() -> None:
    spans = np.full(7, 0.1)
    action = np.array([STILL, MOVE, (0.0009, 0, 0, 0, 0, 0, -1), (0.0011, 0, 0, 0, 0, 0, -1)])
    assert actions.idle_steps(action, DELTA, spans).tolist() == [True, False, True, False]  # type: ignore[union-attr]
    targets = replace(DELTA, kind="absolute")
    assert actions.idle_steps(action, targets, spans).tolist() == [False, False, False, True]  # type: ignore[union-attr]
    assert actions.idle_steps(action, replace(DELTA, kind="undeclared"), spans) is None
    assert actions.idle_steps(action, Convention(), spans) is None


def test_steps_out_of_range() -> None:
    action = np.array([STILL, (1.5, 0, 0, 0, 0, 0, 1.0), (0, 0, 0, 0, 0, 0, 1.2)])
    assert actions.outside_steps(action, preset("libero")) == 1  # 1.2 is towards closed, whatever its size
    assert actions.outside_steps(action, replace(DELTA, gripper_control="position")) == 1
    assert actions.outside_steps(action, Convention()) is None


def test_gripper_switches_are_those_of_the_declared_ends() -> None:
    gripper = np.array([1, 1, 0.1, -0.8, -1, -0.4, 0.7, 1.0])
    assert actions.switches(gripper, DELTA, 0, 0) == (3, 6)
    assert actions.switches(gripper, Convention(), -1, 1) == (3, 6)
    assert actions.switches(np.ones(4), Convention(), 1, 1) == ()


def test_the_asked_path_is_in_metres_whatever_the_unit() -> None:
    action = np.array([(0.03, 0.04, 0, 0, 0, 0, 1), (0, 0, -0.1, 0, 0, 0, 1)])
    assert actions.asked_path(action, METRES) == pytest.approx(0.05 + 0.1)
    assert actions.asked_path(action, replace(METRES, translation_unit="cm")) == pytest.approx(0.0015)
    assert actions.asked_path(action, preset("libero")) == pytest.approx(0.05 * 0.15)  # input 1 is 5 cm
    assert actions.asked_path(action, DELTA) is None
    assert actions.asked_path(action, replace(METRES, kind="absolute")) is None


def test_the_path_is_that_of_the_declared_translation() -> None:
    state = np.array([(0, 0, 0, 9), (3, 4, 0, -9), (3, 4, 12, 9)], dtype=np.float32)
    assert motion.path(state, POSE) == pytest.approx(0.05 + 0.12)
    assert motion.path(state, replace(POSE, translation_unit="undeclared")) is None
    assert motion.path(state, None) is None


def test_a_step_is_still_that_changes_by_at_most_a_hundredth_of_a_usual_change() -> None:
    scale = Scale(spans=np.array([1.0, 1.0]), changes=np.array([0.5, 2.0]))
    state = np.array([(0, 0), (0.005, 0.02), (0.0101, 0.02), (0.0101, 0.0401), (0.0101, 0.0401)])
    assert motion.still_steps(state, scale).tolist() == [True, False, False, True]


def test_what_is_usual_is_of_all_episodes_and_not_of_the_jump_between_two() -> None:
    scale = Scale.of([np.array([[0.0], [1.0], [2.0]]), np.array([[100.0], [101.0]])])
    assert scale.changes.tolist() == [1.0]
    assert scale.spans[0] == pytest.approx(np.quantile([0, 1, 2, 100, 101], 0.99) - 0.04)


def test_jerk_is_the_third_difference_by_the_range_and_the_rate_cubed() -> None:
    state = np.array([0, 1, 8, 27, 64], dtype=np.float64)[:, None]  # third differences of t**3 are 6
    scale = Scale(spans=np.array([64.0]), changes=np.array([1.0]))
    assert motion.jerk(state, scale, 2.0, None) == pytest.approx(6 / 64 * 8)
    both = np.concatenate([state, np.zeros((5, 1))], axis=1)
    pair = Scale(spans=np.array([64.0, 1.0]), changes=np.ones(2))
    assert motion.jerk(both, pair, 2.0, None) == pytest.approx(6 / 64 * 8 / np.sqrt(2))
    assert motion.jerk(both, pair, 2.0, Convention(layout={"joints": (0,)})) == pytest.approx(6 / 64 * 8)
    assert motion.jerk(state[:3], scale, 2.0, None) is None
    assert motion.jerk(state, Scale(spans=np.zeros(1), changes=np.zeros(1)), 2.0, None) is None


def test_a_digest_is_of_content_and_of_nothing_else() -> None:
    one = episode([MOVE, MOVE], [0, 1])
    assert digest(one) == digest(replace(one, id="other", arrays={**one.arrays, "timestamp": np.arange(2.0)}))
    other = one.arrays["action"].copy()
    other[1, 0] = np.nextafter(other[1, 0], 1)
    assert digest(one) != digest(replace(one, arrays={**one.arrays, "action": other}))
    assert digest(one) != digest(replace(one, task="another"))
    white = Frames((np.full((4, 6, 3), 255, np.uint8),) * 2, 4, 6)
    assert digest(one) != digest(replace(one, frames={CAMERA: white}))


def test_a_camera_that_never_changes_is_frozen_and_one_without_light_is_black() -> None:
    one = episode([MOVE] * 5, [0] * 5)
    assert pictures.look(one).frozen == ()
    assert pictures.look(replace(one, frames={CAMERA: flat(7, 7, 7, 7, 7)})).frozen == (CAMERA,)
    assert pictures.look(replace(one, frames={CAMERA: flat(7, 7, 7, 7, 7)}).take(np.arange(2))).frozen == ()
    assert pictures.look(replace(one, frames={CAMERA: flat(15, 15, 14, 13, 15)})).black == (CAMERA,)
    assert pictures.look(replace(one, frames={CAMERA: flat(15, 15, 16, 13, 15)})).black == ()
    lit = np.zeros((16, 18, 3), np.uint8)
    lit[:2, :2] = 16  # one cell of eight by nine
    assert pictures.look(replace(one, frames={CAMERA: Frames((lit,) * 5, 16, 18)})).black == ()


def test_a_picture_that_cannot_be_decoded_is_told() -> None:
    jpeg = images.encode(np.zeros((16, 18, 3), np.uint8), "jpeg")
    cut = Frames((jpeg, jpeg, jpeg[:30]), 16, 18)
    seen = pictures.look(replace(episode([MOVE] * 3, [0] * 3), frames={CAMERA: cut}))
    assert (seen.damaged, seen.count(seen.frozen), str(seen)) == ((CAMERA,), 0, f"damaged: {CAMERA}")


def test_pictures_inside_of_videos_are_looked_at_when_asked_for() -> None:
    class Clip:
        def frame(self, number: int) -> images.Pixels:
            return np.zeros((16, 18, 3), np.uint8)

    items = tuple(ClipFrame(Clip(), t) for t in range(3))
    one = replace(episode([MOVE] * 3, [0] * 3), frames={CAMERA: Frames(items, 16, 18)})
    assert pictures.look(one).count(()) is None
    assert pictures.look(one, video=True).frozen == pictures.look(one, video=True).black == (CAMERA,)


def test_the_hash_has_a_bit_for_each_cell_that_is_brighter_than_its_left() -> None:
    cells = np.zeros((8, 9))
    cells[0, 1] = 2  # above its left; the next one is below it
    cells[7, 8] = 1.5
    cells[3, 4] = 1.0  # no more than the margin
    assert pictures.difference_hash(cells) == 1 << 63 | 1
    ramp = np.broadcast_to(np.arange(90, dtype=np.uint8)[None, :, None], (40, 90, 3))
    assert pictures.brightness(ramp).tolist() == [[10 * i + 4.5 for i in range(9)]] * 8
    assert pictures.brightness(np.full((3, 2, 3), 9, np.uint8)).tolist() == [[9.0] * 9] * 8


def test_reasons_to_look() -> None:
    usual = [row(str(i), idle=0.1, jerk=1.0, switched=(3,), outside=0) for i in range(9)]
    odd = [
        row("idle", idle=0.51, switched=()),
        row("short", steps=9),
        row("long", steps=91, outside=2),
        row("twin", copies=1, copy_of="0"),
        row("near", near_copies=2, near_copy_of="3"),
        row("busy", switched=tuple(range(9))),
        row("still", still=0.6),
        row("rough", jerk=5.1),
        row("dark", cameras="black: front"),
    ]
    assert dict(looks([*usual, *odd])) == {
        "idle": ["51% of the steps idle"],
        "short": ["very short: 9 steps, the median is 30"],
        "long": ["2 steps out of range", "very long: 91 steps, the median is 30"],
        "twin": ["duplicate of 0"],
        "near": ["nearly 3 and others"],
        "busy": ["9 gripper switches"],
        "still": ["60% of the steps still"],
        "rough": ["jerk 5.1 ranges/s³, the median is 1"],
        "dark": ["camera black: front"],
    }
    assert looks([*usual, *odd])[0][0] == "long"
    assert looks([]) == []


def test_a_row_has_the_measures_of_its_episode_among_all() -> None:
    features = {
        "action": Feature(dtype="float64", shape=(7,), convention=METRES.to_json()),
        "observation.state": Feature(dtype="float64", shape=(3,), convention=POSE.to_json()),
    }
    gauge = Gauge()
    state = np.array([(0, 0, 0), (1, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)], dtype=np.float64)
    for at, count in enumerate((5, 3, 4)):
        one = episode([MOVE] * (count - 1) + [STILL], [0] * count)
        gauge.see(
            at,
            Schema(features=features, fps=10),
            replace(one, id=str(at), arrays={**one.arrays, "observation.state": state[:count]}),
        )
    gauge.fail(3, "bad", "E105 truncated: it is cut")
    first, _, _, last = gauge.rows()
    assert (first.steps, first.seconds, first.length_ratio) == (5, 0.5, 1.25)
    assert (first.idle, first.still, first.success) == (0.2, 0.25, False)
    assert (first.path, first.asked_path) == (pytest.approx(0.03), pytest.approx(0.2))
    assert last.to_json() == {
        **dict.fromkeys(name for name, column in COLUMNS.items() if column.is_number),
        **dict.fromkeys((name for name, column in COLUMNS.items() if not column.is_number), ""),
        "position": 3,
        "episode": "bad",
        "error": "E105 truncated: it is cut",
    }


def test_actions_that_are_not_finite_have_no_measures() -> None:
    one = episode([MOVE] * 4, [0] * 4)
    action = one.arrays["action"].copy()
    action[2, 3] = np.nan
    gauge = Gauge()
    gauge.see(0, Schema(features={}, fps=5), replace(one, arrays={**one.arrays, "action": action}))
    (only,) = gauge.rows()
    assert (only.idle, only.near_copies, only.copies) == (None, None, 0)
