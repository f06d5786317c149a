"""What must hold for every episode and every folder of rollouts; the numbers are those of the test plan."""

from __future__ import annotations

import math
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import vla_data as vd
from tests.rollouts import CAMERA, MOVE, STILL, episode, rollout, save
from vla_data.core import Episode, EpisodeRef
from vla_data.core.ledger import BUCKETS
from vla_data.errors import DataError
from vla_data.steps import CutAfterSuccess, SmallActions, success_end
from vla_data.steps.recipes import ppo_sft

settings.register_profile(
    "curation",
    deadline=None,
    derandomize=True,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
PROFILE = settings.get_profile("curation")
"""As a decorator, not loaded: a profile that is loaded here would be that of every other test file too."""
JOBS = settings(PROFILE, max_examples=8)
"""For properties of whole runs, each of which takes some tenths of a second."""

FILES = settings(PROFILE, max_examples=200)

ON_GRID = st.sampled_from(
    [0.0, 0.01, -0.01, 0.06, -0.06, 0.006, 0.008, 0.036, 0.048, 0.011, 0.061, 0.0099, 0.3]
    + [float(np.nextafter(np.float32(t), np.float32(to))) for t in (0.01, 0.06) for to in (0, 1)]
)
"""Components on the thresholds, beside them, and such as give them together."""
FLAGS = st.lists(st.booleans(), min_size=1, max_size=40)


@st.composite
def streaky(draw: st.DrawFn, min_size: int = 1) -> list[bool]:
    """Flags in runs, so that streaks of six are common."""
    runs = draw(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=1, max_size=6))
    flags = [flag for flag, length in runs for _ in range(length)]
    assume(len(flags) >= min_size)
    return flags


@st.composite
def actions(draw: st.DrawFn, steps: int | None = None) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(T, 7) float32; about half of the rows are below the thresholds."""
    T = draw(st.integers(1, 25)) if steps is None else steps  # noqa: N806
    row = st.one_of(
        st.just([0.0] * 6), st.lists(ON_GRID, min_size=6, max_size=6), st.tuples(ON_GRID).map(_one_axis)
    )
    motion = draw(st.lists(row, min_size=T, max_size=T))
    gripper = draw(st.lists(st.sampled_from([1.0, 1.0, 1.0, -1.0]), min_size=T, max_size=T))
    return np.array([[*m, g] for m, g in zip(motion, gripper, strict=True)], np.float32).reshape(T, 7)


def _one_axis(value: tuple[float]) -> list[float]:
    return [value[0], 0.0, 0.0, 0.0, 0.0, 0.0]


@st.composite
def episodes(draw: st.DrawFn) -> Episode:
    flags = draw(streaky())
    return episode(draw(actions(len(flags))), flags)


def moves(row: Sequence[float]) -> bool:
    """The rule in exact arithmetic, rounded once to the row's own precision."""
    x, y, z, a, b, c, _ = (float(v) for v in row)
    p, r = np.float32(math.sqrt(x * x + y * y + z * z)), np.float32(math.sqrt(a * a + b * b + c * c))
    return bool(p > np.float32(0.01) or r > np.float32(0.06))


def streak_end(flags: Sequence[bool], streak: int = 6) -> int | None:
    """One more than the first index at which the last ``streak`` flags are all true."""
    for end in range(streak, len(flags) + 1):
        if all(flags[end - streak : end]):
            return end
    return None


def collapsed(values: Sequence[float]) -> list[float]:
    return [v for i, v in enumerate(values) if i == 0 or values[i - 1] != v]


# 1. Streak end


@PROFILE
@given(streaky())
def test_1_an_episode_ends_with_its_sixth_success_in_a_row_or_stays_whole(flags: list[bool]) -> None:
    after = CutAfterSuccess(min_steps=6).apply(episode([MOVE] * len(flags), flags))

    assert (streak_end(flags) or len(flags)) == len(after)


@PROFILE
@given(FLAGS, st.integers(1, 8))
def test_1_for_any_number_of_successes(flags: list[bool], streak: int) -> None:
    assert streak_end(flags, streak) == success_end(np.array(flags), min_steps=streak, rule="consecutive")


@PROFILE
@given(FLAGS, st.integers(1, 8))
def test_1_cumulative_success_ends_with_the_step_that_completes_the_sum(flags: list[bool], n: int) -> None:
    expected = next((end for end in range(1, len(flags) + 1) if sum(flags[:end]) >= n), None)

    assert expected == success_end(np.array(flags), min_steps=n, rule="cumulative")


# 2. Suffix-blind


@PROFILE
@given(episodes(), episodes())
def test_2_frames_after_the_stop_change_nothing(solved: Episode, more: Episode) -> None:
    stop = streak_end(solved.success_after.tolist())
    assume(stop is not None)
    longer = episode(
        np.concatenate([solved.arrays["action"][:stop], more.arrays["action"]]),
        [*solved.success_after[:stop], *more.success_after],
    )
    exact = episode(solved.arrays["action"][:stop], solved.success_after[:stop].tolist())

    assert _kept(exact) == _kept(longer)


def _kept(of: Episode, **options: Any) -> tuple[str, list[int]]:
    result = vd.curate(of, ppo_sft(**options))
    return result.reason, [] if result.episode is None else result.episode.index.tolist()


# 3. Same index


def is_one_timeline(source: Episode, result: Episode) -> bool:
    """Whether images, actions and flags of ``result`` are those of the source steps that its index names."""
    shown = [int(result.frames[CAMERA].pixels(i)[0, 0, 0]) for i in range(len(result))]
    return shown == result.index.tolist() and all(
        np.array_equal(array, source.arrays[name][result.index]) for name, array in result.arrays.items()
    )


def misaligned(source: Episode) -> Episode:
    """RL4VLA's mismatch: images and actions are taken through the mask, flags are not."""
    kept = SmallActions().apply(source)
    flags = {name: source.arrays[name][: len(kept)] for name in ("next.success", "info.success")}
    return replace(kept, arrays={**kept.arrays, **flags})


@PROFILE
@given(episodes(), st.sampled_from([None, "rl4vla"]), st.integers(0, 6), st.integers(0, 2))
def test_3_images_actions_and_flags_are_of_one_timeline(
    source: Episode, compat: str | None, successes: int, window: int
) -> None:
    chosen = {"compat": compat} if compat else {"gripper_window": window}
    steps = ppo_sft(min_success_steps=max(successes, 1), **chosen)
    result = vd.curate(source, steps).episode

    assert result is None or is_one_timeline(source, result)


BUG_1 = episode([STILL if t in (1, 3) else MOVE for t in range(12)], [t >= 4 for t in range(12)])


def test_3_the_check_of_one_timeline_fails_for_flags_by_pruned_position() -> None:
    assert (True, False) == (
        is_one_timeline(BUG_1, SmallActions().apply(BUG_1)),
        is_one_timeline(BUG_1, misaligned(BUG_1)),
    )


def test_3_the_misaligned_reference_ends_two_steps_late() -> None:
    reference, ours = (streak_end(f(BUG_1).success_after.tolist()) for f in (misaligned, SmallActions().apply))

    assert (10, 8) == (reference, ours)


@PROFILE
@given(episodes())
def test_3_the_check_of_one_timeline_fails_whenever_a_misread_flag_differs(source: Episode) -> None:
    wrong, right = misaligned(source), SmallActions().apply(source)
    assume(wrong.success_after.tolist() != right.success_after.tolist())

    assert not is_one_timeline(source, wrong)


def test_3_the_check_of_one_timeline_fails_for_images_that_are_late_by_one() -> None:
    frames = BUG_1.frames[CAMERA].take([*range(1, 12), 11])

    assert not is_one_timeline(BUG_1, replace(BUG_1, frames={CAMERA: frames}))


# 4. Type of success


def read(data: object, suffix: str = ".npy") -> Episode:
    """What the source makes of a rollout in a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = save(Path(folder), f"a{suffix}", data)
        return vd.open_source(path).read(EpisodeRef(path.name, path.stat().st_size))


def read_success(success: Sequence[object]) -> list[bool]:
    return read(rollout(success=success, size=(2, 2))).success_after.tolist()


TRUE_OR_FALSE: Sequence[Callable[[bool], object]] = (
    bool,
    int,
    np.bool_,
    np.int64,
    np.uint8,
    float,
    np.float32,
    lambda flag: np.array(flag),
    lambda flag: np.array([flag]),
    lambda flag: np.array([int(flag)]),
)
NO_BOOLEANS = st.sampled_from(
    [
        None,
        0.5,
        1.5,
        float("nan"),
        np.float32(0.5),
        np.float64(2),
        2,
        -1,
        np.int64(7),
        "True",
        "",
        b"1",
        [],
        [True],
        (False,),
        {},
        {"success": True},
        np.array([True, False]),
        np.array([], dtype=np.bool_),
        np.array([[True]]),
        np.array(["True"]),
    ]
)


@FILES
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(TRUE_OR_FALSE)), min_size=1, max_size=12))
def test_4_every_way_to_write_true_and_false_is_the_same_flag(
    flags: list[tuple[bool, Callable[[bool], object]]],
) -> None:
    assert [flag for flag, _ in flags] == read_success([form(flag) for flag, form in flags])


@FILES
@given(st.lists(st.booleans(), max_size=8), st.data(), NO_BOOLEANS)
def test_4_a_success_that_is_no_boolean_is_refused(flags: list[bool], data: st.DataObject, odd: object) -> None:
    at = data.draw(st.integers(0, len(flags)))

    with pytest.raises(DataError) as caught:
        read_success([*flags[:at], odd, *flags[at:]])

    assert ("E205", len(flags) + 1) == (caught.value.code, caught.value.frames)


@pytest.mark.parametrize("success", [np.full(8, 0.5), np.full(8, 2), np.array(["1"] * 8), ["True"] * 8])
def test_4_a_column_of_success_that_is_not_of_booleans_is_refused(success: object) -> None:
    with pytest.raises(DataError, match="success"):
        read({**rollout(T=8, size=(2, 2)), "info": {"success": success}})


@pytest.mark.parametrize("success", [True, np.array(True)], ids=repr)
def test_4_one_flag_for_a_whole_episode_is_not_a_flag_of_every_step(success: object) -> None:
    """The last info alone, say: eight steps are not eight successes."""
    with pytest.raises(DataError):
        read({**rollout(T=8, size=(2, 2)), "info": {"success": success}})


# 5. Mask rule


@PROFILE
@given(actions(), st.sampled_from([1.0, -1.0, None]))
def test_5_a_step_is_kept_if_it_moves_or_switches_the_gripper(action: Any, initial: float | None) -> None:
    before = [action[0][6] if initial is None else initial, *action[:-1, 6]]
    expected = [moves(row) or row[6] != last for row, last in zip(action, before, strict=True)]

    assert expected == SmallActions(initial_gripper=initial).keep(action).tolist()


@PROFILE
@given(st.floats(2**-20, 10, width=32), st.integers(0, 5))
def test_5_thresholds_are_exact_at_equality(limit: float, column: int) -> None:
    action = np.array([STILL] * 3, np.float32)
    action[:, column] = [np.nextafter(np.float32(limit), to) for to in np.float32([0, limit, 100])]

    assert [False, False, True] == SmallActions(pos=limit, rot=limit).keep(action).tolist()


@PROFILE
@given(actions(), st.permutations([0, 1, 2]), st.lists(st.sampled_from([1, -1]), min_size=6, max_size=6))
def test_5_axes_and_signs_play_no_part(action: Any, order: list[int], signs: list[int]) -> None:
    turned = action[:, [*order, *(3 + i for i in order), 6]] * np.array([*signs, 1], np.float32)

    # The order in which squares are added may change the last bit of a double, not that of a float32.
    assert SmallActions().keep(action).tolist() == SmallActions().keep(turned).tolist()


# 6. Toggles survive


@PROFILE
@given(actions(), st.sampled_from([1.0, -1.0, None]))
def test_6_toggles_survive(action: Any, initial: float | None) -> None:
    whole = collapsed(action[:, 6].tolist())
    left = collapsed(action[SmallActions(initial_gripper=initial).keep(action)][:, 6].tolist())

    assert left in (whole, whole[1:])


@PROFILE
@given(actions())
def test_6_only_the_initial_state_may_be_lost(action: Any) -> None:
    left = action[SmallActions(initial_gripper=1.0).keep(action)][:, 6].tolist()

    assert collapsed([1.0, *action[:, 6].tolist()]) == collapsed([1.0, *left])


# 7. Pruning twice


@PROFILE
@given(actions(), st.sampled_from([1.0, -1.0]))
def test_7_pruning_twice_is_pruning_once_where_the_initial_gripper_is_known(action: Any, initial: float) -> None:
    step = SmallActions(initial_gripper=initial)
    once = step.apply(episode(action, [False] * len(action)))
    assume(len(once))

    assert once.index.tolist() == step.apply(once).index.tolist()


@PROFILE
@given(actions())
def test_7_without_it_only_a_first_step_that_its_toggle_kept_is_lost(action: Any) -> None:
    step = SmallActions(initial_gripper=None)
    once = step.apply(episode(action, [False] * len(action)))
    assume(len(once))
    expected = once.index.tolist()[0 if moves(once.arrays["action"][0]) else 1 :]

    assert expected == step.apply(once).index.tolist()


def test_7_the_exception_exists() -> None:
    step = SmallActions(initial_gripper=None)
    once = step.apply(episode([STILL, [*STILL[:6], -1.0], MOVE], [0, 0, 0]))

    assert ([1, 2], [2]) == (once.index.tolist(), step.apply(once).index.tolist())


@PROFILE
@given(episodes())
def test_7_cutting_twice_is_cutting_once(source: Episode) -> None:
    once = CutAfterSuccess().apply(source)

    assert once.index.tolist() == CutAfterSuccess().apply(once).index.tolist()


# 8. Moved distance


@PROFILE
@given(actions(), st.floats(0, 0.1), st.floats(0, 0.4))
def test_8_no_dropped_step_moves_more_than_the_thresholds(action: Any, pos: float, rot: float) -> None:
    dropped = action[~SmallActions(pos=pos, rot=rot).keep(action)].astype(np.float64)
    moved, turned = (np.linalg.norm(dropped[:, part], axis=1) for part in (slice(0, 3), slice(3, 6)))
    ulp = 1 + 2**-22  # norms and thresholds are compared as float32

    assert (moved <= pos * ulp).all()
    assert (turned <= rot * ulp).all()


@PROFILE
@given(actions())
def test_8_all_dropped_steps_together_move_less_than_their_number_says(action: Any) -> None:
    dropped = action[~SmallActions().keep(action)].astype(np.float64)

    assert np.linalg.norm(dropped[:, :3].sum(axis=0)) <= len(dropped) * 0.01 * (1 + 2**-22)


# 9. What is not finite never prunes


@FILES
@given(
    actions(),
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.integers(0, 6),
    st.sampled_from(["float32", "float64", "float16", "list", "rows"]),
    st.data(),
)
def test_9_a_row_that_is_not_finite_is_refused_and_not_dropped(
    action: Any, value: float, column: int, form: str, data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, len(action) - 1))
    action[row, column] = value
    stored = {"list": action.tolist, "rows": lambda: list(action)}.get(form, lambda: action.astype(form))()

    with pytest.raises(DataError) as caught:
        read(rollout(actions=stored, size=(2, 2)))

    assert ("E201", len(action)) == (caught.value.code, caught.value.frames)
    assert f"action[{row}][{column}]" in caught.value.message


@PROFILE
@given(actions(), st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 6), st.data())
def test_9_the_pruning_step_refuses_it_as_well(
    action: Any, value: float, column: int, data: st.DataObject
) -> None:
    action[data.draw(st.integers(0, len(action) - 1)), column] = value

    with pytest.raises(ValueError, match="not finite"):
        SmallActions().keep(action)


# Whole runs


SINKS = ("rlds", "lerobot", "plain_rollout")


def align(folder: Path, target: Path, format: str = "rlds", workers: int = 1, **options: Any) -> vd.Report:
    named = {"name": "x"} if format == "rlds" else {}
    sink = vd.open_sink(target, format=format, **named)
    return vd.run(vd.open_source(f"ppo_rollout:{folder}"), ppo_sft(), sink, workers=workers, **options)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fill(folder: Path, order: Sequence[int]) -> None:
    """Twenty rollouts, more than one part, in subfolders, written in this order; each has its own content."""
    for i in order:
        flags = [t >= i % 5 for t in range(9 + i % 4)]
        name = f"run_{i % 2}/ep_{i}{'.npz' if i % 3 else '.npy'}"
        save(folder, name, rollout(success=flags, size=(8, 8), images="jpeg" if i % 4 else "png", seed=i))


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twenty") / "rollouts"
    fill(folder, range(20))
    return folder


@pytest.fixture(scope="module", params=SINKS)
def golden(
    request: pytest.FixtureRequest, twenty: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, bytes]]:
    """A format, and the files of the dataset that the twenty rollouts are in it."""
    target = tmp_path_factory.mktemp(request.param) / "data"
    align(twenty, target, request.param)
    return request.param, tree(target)


# 24. Order-free


class ShuffledScandir:
    """``os.scandir`` with its entries in another order."""

    def __init__(self, path: Any, seed: int) -> None:
        with _SCANDIR(path) as entries:
            self._entries = sorted(entries, key=lambda entry: entry.name)
        random.Random(seed).shuffle(self._entries)

    def __enter__(self) -> Iterator[os.DirEntry[str]]:
        return iter(self._entries)

    def __exit__(self, *_: object) -> None:
        pass


_SCANDIR = os.scandir


@pytest.mark.parametrize("seed", [1, 2])
def test_24_the_order_of_a_directory_listing_plays_no_part(
    golden: tuple[str, dict[str, bytes]],
    twenty: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    format, expected = golden
    own = {"fsencode": os.fsencode, "fspath": os.fspath}
    shuffled = SimpleNamespace(scandir=lambda path: ShuffledScandir(path, seed), **own)
    monkeypatch.setattr("vla_data.files.folders.os", shuffled)

    align(twenty, tmp_path / "data", format)

    assert _same(expected, tree(tmp_path / "data"))


def test_24_the_order_in_which_files_were_written_plays_no_part(
    golden: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    format, expected = golden
    fill(tmp_path / "elsewhere", [*range(10, 20), *reversed(range(10))])

    align(tmp_path / "elsewhere", tmp_path / "data", format)

    assert _same(expected, tree(tmp_path / "data"))


def test_24_the_number_of_workers_plays_no_part(
    golden: tuple[str, dict[str, bytes]], twenty: Path, tmp_path: Path
) -> None:
    format, expected = golden

    align(twenty, tmp_path / "data", format, workers=2)

    assert _same(expected, tree(tmp_path / "data"))


def test_24_the_output_path_and_the_working_folder_play_no_part(
    golden: tuple[str, dict[str, bytes]], twenty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    format, expected = golden
    monkeypatch.chdir(tmp_path)

    align(twenty, Path("other/deeper/name"), format)

    assert _same(expected, tree(tmp_path / "other/deeper/name"))


def _same(expected: dict[str, bytes], found: dict[str, bytes]) -> bool:
    """With the names of what differs in place of megabytes, should it."""
    differ = {name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)}
    assert set() == differ
    return True


# 25. Bad neighbour


def _not_finite(folder: Path, name: str) -> None:
    save(folder, name, rollout(actions=[*[list(MOVE)] * 8, [math.nan] * 7], size=(8, 8)))


def _garbage(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"not a rollout at all")


def _cut(folder: Path, name: str) -> None:
    path = save(folder, name, rollout(size=(8, 8)))
    path.write_bytes(path.read_bytes()[:-100])


def _without_success(folder: Path, name: str) -> None:
    save(folder, name, {**rollout(size=(8, 8)), "info": [{}] * 8})


BOOKS = {"ledger.parquet", "manifest.json", "SHA256SUMS"}
"""What may differ when a bad file is there."""


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        (_not_finite, "a_first.npz"),
        (_garbage, "run_0/ep_2_between.npy"),
        (_cut, "run_0/ep_0.npz"),  # beside a good ep_0.npy
        (_without_success, "z_last.npy"),
    ],
)
def test_25_a_bad_file_changes_only_the_books(
    golden: tuple[str, dict[str, bytes]],
    tmp_path: Path,
    bad: Callable[[Path, str], None],
    name: str,
) -> None:
    format, expected = golden
    fill(tmp_path / "rollouts", range(20))
    bad(tmp_path / "rollouts", name)

    report = align(tmp_path / "rollouts", tmp_path / "data", format)

    found = tree(tmp_path / "data")
    differ = {path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)}
    assert ([name], 3) == ([r.id for r in report.ledger.records if r.status == "failed"], report.exit_code)
    assert BOOKS == {Path(path).name for path in differ}


# 26. Accounting


@dataclass(frozen=True)
class Kind:
    """A kind of file, with what the ledger must say about one of ``T`` steps."""

    make: Callable[[int, int], object]
    status: str
    success: bool | None
    buckets: Callable[[int], dict[str, int]]


def _failing(length: int, seed: int) -> object:
    return rollout(success=[t % 6 != 5 for t in range(length)], size=(4, 4), seed=seed)


def _solved(length: int, seed: int) -> object:
    """Success from step 1 on; step 2 is still, and the sixth success is of step 6."""
    actions = [STILL if t == 2 else MOVE for t in range(length)]
    flags = [t >= 1 for t in range(length)]
    return rollout(actions=np.array(actions, np.float32), success=flags, size=(4, 4), seed=seed)


def _still(length: int, seed: int) -> object:
    actions = np.array([STILL] * length, np.float32)
    return rollout(actions=actions, success=[True] * length, size=(4, 4), seed=seed)


def _nan(length: int, seed: int) -> object:
    actions = np.array([MOVE] * length, np.float32)
    actions[-1, 0] = np.nan
    return rollout(actions=actions, size=(4, 4), seed=seed)


KINDS = {
    "solved": Kind(_solved, "published", True, lambda n: {"kept": 6, "pruned": 1, "truncated": n - 7}),
    "failing": Kind(_failing, "rejected", False, lambda n: {"rejected": n}),
    "still": Kind(_still, "rejected", True, lambda n: {"rejected": n}),
    "nan": Kind(_nan, "failed", None, lambda n: {"failed": n}),
    "no_dictionary": Kind(lambda _n, _seed: "a text", "failed", None, lambda _n: {}),
    "other": Kind(lambda _n, _seed: None, "ignored", None, lambda _n: {}),
}


def write_kinds(folder: Path, kinds: Sequence[tuple[str, int]]) -> dict[str, tuple[Kind, int]]:
    """Files of these kinds and lengths; id -> kind and length. The first is always a solved one."""
    out = {}
    for seed, (kind, length) in enumerate([("solved", 9), *kinds]):
        name = f"{seed}_{kind}.npy"
        if kind == "other":
            folder.mkdir(exist_ok=True)
            np.save(folder / name, np.zeros(length))
        else:
            save(folder, name, KINDS[kind].make(length, seed))
        out[name] = KINDS[kind], length
    return out


MIXES = st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.integers(7, 14)), max_size=20)


def run_mix(
    kinds: Sequence[tuple[str, int]], check: Callable[[vd.Report, dict[str, tuple[Kind, int]]], None]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = write_kinds(Path(folder) / "rollouts", kinds)
        report = align(Path(folder) / "rollouts", Path(folder) / "data", max_bad=1.0)
        assert report.ledger == vd.open_ledger(Path(folder) / "data")
        check(report, files)


@JOBS
@given(MIXES)
def test_26_episodes_and_frames_add_up(kinds: list[tuple[str, int]]) -> None:
    def check(report: vd.Report, files: dict[str, tuple[Kind, int]]) -> None:
        counts = report.counts
        seen = [(kind, length) for kind, length in files.values() if kind.status != "ignored"]
        expected: dict[str, float] = {
            "total_files": len(seen),
            "successful_episodes": sum(kind.success is True for kind, _ in seen),
            "failed_episodes": sum(kind.success is False for kind, _ in seen),
            "filtered_episodes": sum(kind.success is True for kind, _ in seen),
            "error_episodes": sum(kind.status == "failed" for kind, _ in seen),
            "success_rate": sum(kind.success is True for kind, _ in seen) / len(seen),
            "published_episodes": sum(kind.status == "published" for kind, _ in seen),
            "ignored_files": len(files) - len(seen),
            "source": sum(sum(kind.buckets(length).values()) for kind, length in seen),
            **{b: sum(kind.buckets(length).get(b, 0) for kind, length in seen) for b in BUCKETS},
        }

        assert expected == counts
        assert counts["total_files"] == (
            counts["successful_episodes"] + counts["failed_episodes"] + counts["error_episodes"]
        )
        assert counts["source"] == sum(counts[bucket] for bucket in BUCKETS)
        assert report.exit_code == (3 if counts["error_episodes"] else 0)

    run_mix(kinds, check)


@JOBS
@given(MIXES)
def test_26_every_record_is_what_its_file_was(kinds: list[tuple[str, int]]) -> None:
    def check(report: vd.Report, files: dict[str, tuple[Kind, int]]) -> None:
        expected = {
            name: (kind.status, kind.success, {b: kind.buckets(n).get(b, 0) for b in BUCKETS})
            for name, (kind, n) in files.items()
        }
        found = {r.id: (r.status, r.success, {b: r.frames(b) for b in BUCKETS}) for r in report.ledger.records}

        assert expected == found
        assert list(files) == [record.id for record in report.ledger.records]  # named in natural order

    run_mix(kinds, check)


@JOBS
@given(MIXES)
def test_26_every_frame_has_one_bucket_and_why_names_it(kinds: list[tuple[str, int]]) -> None:
    def check(report: vd.Report, files: dict[str, tuple[Kind, int]]) -> None:
        for record in report.ledger.records:
            length = record.length or 0
            spans = [span for t in range(length) for span in record.spans if span.start <= t < span.stop]
            answers = [report.ledger.why(record.id, t) for t in range(length)]
            placed = [answer["output_frame"] for answer in answers if answer["output_frame"] is not None]

            assert length == len(spans)  # each frame in one, and only one
            assert [(span.bucket, span.reason) for span in spans] == [
                (answer["bucket"], answer["frame_reason"]) for answer in answers
            ]
            assert list(range(record.frames("kept"))) == placed
            with pytest.raises(vd.UsageError):
                report.ledger.why(record.id, length)

    run_mix(kinds, check)


@JOBS
@given(MIXES)
def test_26_published_episodes_are_numbered_in_order(kinds: list[tuple[str, int]]) -> None:
    def check(report: vd.Report, files: dict[str, tuple[Kind, int]]) -> None:
        published = [name for name, (kind, _) in files.items() if kind.status == "published"]
        places = {r.id: r.output_index for r in report.ledger.records if r.output_index is not None or r.split}

        assert {name: place for place, name in enumerate(published)} == places
        assert len(published) == sum(report.details["splits"].values())

    run_mix(kinds, check)


def test_26_duplicates_are_counted_once(tmp_path: Path) -> None:
    for name in ("a.npy", "b.npy", "c.npy"):
        save(tmp_path / "rollouts", name, _solved(9, seed=name == "c.npy"))

    report = align(tmp_path / "rollouts", tmp_path / "data", dedup=True)

    expected = {
        "total_files": 3,
        "successful_episodes": 3,
        "published_episodes": 2,
        "source": 27,
        "kept": 12,
        "pruned": 2,
        "truncated": 4,
        "rejected": 9,
        "failed": 0,
    }
    assert expected == {name: report.counts[name] for name in expected}
    assert {"duplicate": 1} == report.ledger.reasons()


def test_26_a_file_that_is_removed_while_it_is_read_is_one_error(tmp_path: Path) -> None:
    """A seal names it, so it is counted though it is not there."""
    save(tmp_path / "rollouts", "a.npy", _solved(9, 0))
    (tmp_path / "rollouts/SHA256SUMS").write_text(f"{'0' * 64}  gone.npy\n")

    report = align(tmp_path / "rollouts", tmp_path / "data")

    assert (2, 1, 1, 9) == tuple(
        report.counts[name] for name in ("total_files", "successful_episodes", "error_episodes", "source")
    )
