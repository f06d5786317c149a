"""The recorder: what is recorded is what is read, whatever dies, fails or is given wrongly."""

from __future__ import annotations

import errno
import gc
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import vla_data as vd
from vla_data.core import Episode
from vla_data.errors import MachineError, UsageError
from vla_data.files import write as io
from vla_data.files.sums import SEAL, read_seal
from vla_data.media import images
from vla_data.recording import LostEpisode, OpenEpisode, RolloutWriter
from vla_data.recording import episode as episodes

CAMERA = "observation.images.primary"
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (12, 6, 8, 3), dtype=np.uint8)
ACTION = np.array([0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], dtype=np.float32)
STEP: dict[str, Any] = {"image": IMAGES[0], "action": ACTION, "success": False}


def record(writer: RolloutWriter, steps: int = 3, *, task: str = "lift", last: bool = True) -> Path:
    episode = writer.episode(task=task)
    for t in range(steps):
        episode.add(image=IMAGES[t], action=ACTION * (t + 1), success=t >= 2)
    return episode.end(image=IMAGES[steps] if last else None)


def read(folder: Path) -> list[Episode]:
    source = vd.open_source(f"ppo_rollout:{folder}")
    return [source.read(ref) for ref in source.episodes()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name[0] != ".")


def numbered(count: int) -> list[str]:
    return [f"episode_{n:06}.npz" for n in range(count)]


# What is recorded is what is read


def test_an_episode_reads_back_as_it_was(tmp_path: Path) -> None:
    with RolloutWriter(tmp_path, fps=20) as writer:
        episode = writer.episode(task="lift the cube")
        for t in range(3):
            episode.add(
                image=IMAGES[t],
                action=ACTION * (t + 1),
                success=t == 2,
                reward=t / 2,
                state=[0.5, t],
                info={"grasped": t > 0, "distance": np.float32(0.3), "contacts": t},
            )
        path = episode.end(image=IMAGES[3], state=[0.5, 3])
    assert (path, writer.written, writer.lost) == (tmp_path / "episode_000000.npz", [path], ())
    (got,) = read(tmp_path)
    assert got.task == "lift the cube"
    columns = {
        "action": np.stack([ACTION, ACTION * 2, ACTION * 3]),
        "next.success": np.array([False, False, True]),
        "next.reward": np.array([0, 0.5, 1], dtype=np.float32),
        "observation.state": np.array([[0.5, 0], [0.5, 1], [0.5, 2]], dtype=np.float32),
        "info.success": np.array([False, False, True]),
        "info.reward": np.array([0, 0.5, 1]),
        "info.grasped": np.array([False, True, True]),
        "info.distance": np.array([0.3] * 3, dtype=np.float32),
        "info.contacts": np.array([0, 1, 2]),
        "info.elapsed_steps": np.array([1, 2, 3]),
    }
    assert got.arrays.keys() == columns.keys()
    for name, column in columns.items():
        assert (name, got.arrays[name].dtype) == (name, column.dtype)
        np.testing.assert_array_equal(got.arrays[name], column)
    np.testing.assert_array_equal([got.frames[CAMERA].pixels(t) for t in range(3)], IMAGES[:3])
    np.testing.assert_array_equal(got.final[CAMERA].pixels(0), IMAGES[3])


def test_numpy_alone_reads_a_file_without_pickle(tmp_path: Path) -> None:
    with RolloutWriter(tmp_path, fps=20) as writer:
        path = record(writer)
    with np.load(path, allow_pickle=False) as data:
        assert sorted(data.files) == [
            "action", "fps", "image", "image_sizes", "info.elapsed_steps", "info.success", "instruction"
        ]  # fmt: skip
        assert (data["fps"].item(), data["instruction"].item()) == (20.0, "lift")
        ends = np.cumsum(data["image_sizes"])
        first = data["image"][: ends[0]].tobytes()
    np.testing.assert_array_equal(images.decode(first), IMAGES[0])


def test_jpeg_bytes_pass_through(tmp_path: Path) -> None:
    with RolloutWriter(tmp_path, fps=20, images="jpeg") as writer:
        record(writer)
    (got,) = read(tmp_path)
    assert [bytes(item) for item in got.frames[CAMERA].items] == [images.encode(i, "jpeg") for i in IMAGES[:3]]


@pytest.mark.parametrize("last", [True, False])
def test_timing_is_known_to_be_after_with_and_without_a_last_image(last: bool, tmp_path: Path) -> None:
    with RolloutWriter(tmp_path, fps=20) as writer:
        record(writer, last=last)
    (got,) = read(tmp_path)
    assert (got.meta["info_timing"], got.meta["info_timing_rule"]) == ("after", "elapsed_steps")
    assert len(got.final) == last


def test_the_same_episode_gives_the_same_bytes(tmp_path: Path) -> None:
    with RolloutWriter(tmp_path, fps=20) as writer:
        assert record(writer).read_bytes() == record(writer).read_bytes()


def test_recorded_rollouts_can_be_sanitized_without_loss(tmp_path: Path) -> None:
    with RolloutWriter(tmp_path / "raw", fps=20) as writer:
        record(writer)
    vd.run(
        vd.open_source(tmp_path / "raw"), (), vd.open_sink(tmp_path / "plain", format="plain_rollout"), workers=1
    )
    (before,), (after,) = read(tmp_path / "raw"), read(tmp_path / "plain")
    assert before.arrays.keys() == after.arrays.keys()
    assert [bytes(i) for i in before.frames[CAMERA].items] == [bytes(i) for i in after.frames[CAMERA].items]


floats = st.floats(-100, 100, width=32)


@st.composite
def steps(draw: st.DrawFn) -> list[dict[str, Any]]:
    """What one episode's ``add`` calls are given; the dtypes are those of environments."""
    size = (draw(st.integers(1, 9)), draw(st.integers(1, 9)), 3)
    count = draw(st.integers(1, 6))
    has_state, has_reward = draw(st.booleans()), draw(st.booleans())
    dtype = draw(st.sampled_from([np.float32, np.float64, list]))
    info = draw(
        st.dictionaries(
            st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,9}", fullmatch=True).filter(
                lambda key: key not in ("success", "reward", "elapsed_steps")
            ),
            st.sampled_from([st.booleans(), st.integers(-(2**40), 2**40), floats, st.just(float("nan"))]),
            max_size=3,
        )
    )
    out = []
    for _ in range(count):
        action = draw(st.lists(floats, min_size=7, max_size=7))
        success = draw(st.booleans())
        step: dict[str, Any] = {
            "image": draw(hnp.arrays(np.uint8, size)),
            "action": action if dtype is list else np.array(action, dtype=dtype),
            "success": draw(st.sampled_from([success, np.bool_(success), np.array([success])])),
            "info": {key: draw(value) for key, value in info.items()},
        }
        if has_state:
            step["state"] = draw(st.lists(floats, min_size=2, max_size=2))
        if has_reward:
            step["reward"] = draw(floats)
        out.append(step)
    return out


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps(), min_size=1, max_size=3), st.text("aé∀ 🤖", min_size=1).filter(str.strip), st.randoms())
def test_whatever_is_given_is_read_back(
    episodes: list[list[dict[str, Any]]], task: str, order: random.Random
) -> None:
    """Several episodes open at once, their steps in any order; the files are in the order of their ends."""
    waiting = [number for number, wanted in enumerate(episodes) for _ in range(len(wanted) + 1)]
    order.shuffle(waiting)
    ended: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        with RolloutWriter(folder, fps=20) as writer:
            opened = [writer.episode(task=f"{task}{number}") for number in range(len(episodes))]
            for number in waiting:
                episode = opened[number]
                if len(episode) < len(episodes[number]):
                    episode.add(**episodes[number][len(episode)])
                else:
                    episode.end()
                    ended.append(number)
        got = read(Path(folder))
    assert [episode.task for episode in got] == [f"{task}{number}" for number in ended]
    for episode, wanted in zip(got, (episodes[number] for number in ended), strict=True):
        for t, step in enumerate(wanted):
            np.testing.assert_array_equal(episode.frames[CAMERA].pixels(t), step["image"])
            np.testing.assert_array_equal(episode.arrays["action"][t], np.float32(step["action"]))
            assert episode.arrays["next.success"][t] == step["success"]
            for key, value in step["info"].items():
                np.testing.assert_array_equal(episode.arrays[f"info.{key}"][t], value)
            if "state" in step:
                np.testing.assert_array_equal(episode.arrays["observation.state"][t], np.float32(step["state"]))
            if "reward" in step:
                assert episode.arrays["info.reward"][t] == step["reward"]


def test_what_was_given_may_be_reused(tmp_path: Path) -> None:
    """Environments hand out the same arrays again and again."""
    image, action, state = np.zeros((4, 4, 3), np.uint8), np.zeros(7, np.float32), np.zeros(2, np.float32)
    with RolloutWriter(tmp_path, fps=20) as writer:
        episode = writer.episode(task="lift")
        for t in range(3):
            image[:], action[:], state[:] = t, t, t
            episode.add(image=image, action=action, state=state, success=False)
        episode.end()
    (got,) = read(tmp_path)
    assert [0, 1, 2] == got.arrays["action"][:, 0].tolist() == got.arrays["observation.state"][:, 0].tolist()
    assert [0, 1, 2] == [got.frames[CAMERA].pixels(t).max() for t in range(3)]


def test_a_flipped_view_is_recorded_as_it_looks(tmp_path: Path) -> None:
    with RolloutWriter(tmp_path, fps=20) as writer:
        episode = writer.episode(task="lift")
        episode.add(image=IMAGES[0][::-1], action=ACTION, success=False)
        episode.end()
    np.testing.assert_array_equal(read(tmp_path)[0].frames[CAMERA].pixels(0), IMAGES[0][::-1])


# Episodes that don't end


def test_an_episode_that_did_not_end_is_lost_and_named(tmp_path: Path) -> None:
    with RolloutWriter(tmp_path, fps=20) as writer:
        record(writer)
        writer.episode(task="open the drawer").add(**STEP)
        assert writer.lost == (LostEpisode(number=1, task="open the drawer", steps=1),)
        with pytest.warns(UserWarning, match="1 episodes were not ended .*'open the drawer' after 1 steps"):
            writer.close()
    assert writer.lost == (LostEpisode(number=1, task="open the drawer", steps=1),)
    assert names(tmp_path) == [SEAL, *numbered(1)]


def fail(writer: RolloutWriter, error: type[BaseException]) -> None:
    record(writer)
    writer.episode(task="lift").add(**STEP)
    raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_keeps_what_ended_and_is_not_hidden(error: type[BaseException], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        writer = RolloutWriter(tmp_path, fps=20)
        with pytest.raises(error), writer:
            fail(writer, error)
    assert [lost.steps for lost in writer.lost] == [1]
    assert read_seal(tmp_path) == {"episode_000000.npz": sha256(writer.written[0])}


def test_a_discarded_episode_is_neither_written_nor_lost(tmp_path: Path) -> None:
    with RolloutWriter(tmp_path, fps=20) as writer:
        episode = writer.episode(task="lift")
        episode.add(**STEP)
        episode.discard()
        record(writer)
    assert (writer.lost, names(tmp_path)) == ((), [SEAL, *numbered(1)])


def test_a_dropped_episode_gives_its_memory_back_and_is_still_lost(tmp_path: Path) -> None:
    writer = RolloutWriter(tmp_path, fps=20)
    for _ in range(3):
        writer.episode(task="lift").add(**STEP)
    gc.collect()
    assert not [item for item in gc.get_objects() if isinstance(item, OpenEpisode) and item._writer is writer]
    assert [lost.steps for lost in writer.lost] == [1, 1, 1]


# Bad input


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "action of another size": ({"action": [0.0] * 6}, r"step 2: action has shape \(6,\), not \(7,\)"),
    "action with a batch axis": ({"action": ACTION[None]}, r"step 2: action has shape \(1, 7\)"),
    "action not finite": ({"action": [0, 0, float("nan"), 0, 0, 0, 1]}, r"step 2: action\[2\] is nan"),
    "action beyond float32": ({"action": [1e300, 0, 0, 0, 0, 0, 1]}, r"step 2: action\[0\] is 1e\+300"),
    "action of flags": ({"action": [True] * 7}, "step 2: action is of bool, not of numbers"),
    "action ragged": ({"action": [[1], [1, 2]]}, "step 2: action is a list, not an array"),
    "image of floats": ({"image": IMAGES[0] / 255.0}, "step 2: image is of float64 and shape"),
    "image channels first": ({"image": IMAGES[0].transpose(2, 0, 1)}, r"step 2: image .* \(3, 6, 8\), not uint8"),
    "image without pixels": ({"image": IMAGES[0][:0]}, "step 2: image has shape"),
    "image of another size": ({"image": IMAGES[0][:4]}, "step 2: image is 4x8, and the ones before are 6x8"),
    "image missing": ({"image": None}, "step 2: image is of object"),
    "success a number": ({"success": 1.0}, "step 2: success is 1.0, not True or False"),
    "success a batch": ({"success": np.array([True, False])}, r"step 2: success is of shape \(2,\), not True"),
    "success missing": ({"success": None}, "step 2: success is None, not True or False"),
    "reward not finite": ({"reward": float("inf")}, "step 2: reward is inf"),
    "reward missing": ({"reward": None}, "step 2: reward missing; give each in all steps or none"),
    "state not finite": ({"state": [0, float("nan")]}, r"step 2: state\[1\] is nan"),
    "state of another size": ({"state": [0.0]}, r"step 2: state has shape \(1,\), not \(2,\)"),
    "state missing": ({"state": None}, "step 2: state missing; give each in all steps or none"),
    "info missing": ({"info": None}, r"step 2: info\['elapsed_steps'\], info\['near'\] missing; give each"),
    "info new": ({"info": {"near": True, "elapsed_steps": 3, "far": 1}}, r"info\['far'\] not in the steps before"),
    "info a text": ({"info": {"near": "yes", "elapsed_steps": 3}}, r"step 2: info\['near'\] is 'yes', not a n"),
    "info of another kind": ({"info": {"near": 0.5, "elapsed_steps": 3}}, r"\['near'\] is 0.5, and True in"),
    "info with success": ({"info": {"success": True}}, "step 2: info has 'success', which is an argument"),
    "info with an odd key": ({"info": {"a/b": 1}}, "step 2: info's key 'a/b' is not a name"),
    "info of before": ({"info": {"near": True, "elapsed_steps": 2}}, "is 2 after 2; give .* after"),
    "info of the next episode": ({"info": {"near": True, "elapsed_steps": 0}}, "0 after 2; .* of final_info"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_where_it_is_given_and_changes_nothing(case: str, tmp_path: Path) -> None:
    change, message = BAD[case]

    def good(t: int) -> dict[str, Any]:
        info = {"near": True, "elapsed_steps": t + 1}
        return {**STEP, "reward": 0.0, "state": [0.0, 1.0], "info": info}

    with RolloutWriter(tmp_path, fps=20) as writer:
        episode = writer.episode(task="lift")
        episode.add(**good(0))
        episode.add(**good(1))
        with pytest.raises(ValueError, match=message):
            episode.add(**{**good(2), **change})
        assert len(episode) == 2
        episode.add(**good(2))
        episode.end()
    (got,) = read(tmp_path)
    assert (len(got), got.arrays["info.elapsed_steps"].tolist()) == (3, [1, 2, 3])


def test_infos_of_before_the_action_are_noticed_in_the_first_step(tmp_path: Path) -> None:
    episode = RolloutWriter(tmp_path, fps=20).episode(task="lift")
    with pytest.raises(ValueError, match=r"step 0: info\['elapsed_steps'\] is 0 after 0"):
        episode.add(**STEP, info={"elapsed_steps": 0})


def test_a_tensor_with_a_gradient_says_what_to_call(tmp_path: Path) -> None:
    class Tensor:
        def detach(self) -> None: ...

        def __array__(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    with pytest.raises(ValueError, match=r"action is a Tensor, .*\.detach\(\)\.cpu\(\)\.numpy\(\)"):
        RolloutWriter(tmp_path, fps=20).episode(task="lift").add(**{**STEP, "action": Tensor()})


def test_bad_ends_are_refused_and_can_be_put_right(tmp_path: Path) -> None:
    with RolloutWriter(tmp_path, fps=20) as writer:
        episode = writer.episode(task="lift")
        with pytest.raises(ValueError, match="the episode has no steps"):
            episode.end(image=IMAGES[0])
        episode.add(**STEP)
        with pytest.raises(ValueError, match="the end: image is 4x8, and the ones before are 6x8"):
            episode.end(image=IMAGES[1][:4])
        with pytest.raises(ValueError, match="the end: there is a state, but the steps have none"):
            episode.end(state=[0.0])
        episode.end(image=IMAGES[1])
        for late in (episode.end, episode.discard, lambda: episode.add(**STEP)):
            with pytest.raises(ValueError, match="the episode has ended"):
                late()
    with pytest.raises(ValueError, match="the writer is closed"):
        writer.episode(task="lift")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"fps": 0}, "fps is 0, not from"), ({"fps": 5, "images": "jpg"}, "images is 'jpg'.*did you mean 'jpeg'")],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        RolloutWriter(tmp_path, **options)


@pytest.mark.parametrize(
    ("task", "message"),
    [("", "the instruction is empty"), ("a\nb", "the character"), (b"lift", "task is a bytes, not a text")],
)
def test_a_bad_task_is_refused(task: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        RolloutWriter(tmp_path, fps=20).episode(task=task)


def test_an_episode_that_no_reader_would_take_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "MAX_BYTES", 2 * len(images.encode(IMAGES[0], "png")) + 100)
    with RolloutWriter(tmp_path, fps=20) as writer:
        episode = writer.episode(task="lift")
        episode.add(**STEP)
        episode.add(**STEP)
        with pytest.raises(ValueError, match="step 2: the episode takes"):
            episode.add(**STEP)
        episode.end()
    assert len(read(tmp_path)[0]) == 2


# Names and seals


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_existing_files_are_kept_and_numbers_go_on(tmp_path: Path) -> None:
    (tmp_path / "episode_000007.npz").write_bytes(b"mine")
    with RolloutWriter(tmp_path, fps=20) as writer:
        (tmp_path / "episode_000008.npz").write_bytes(b"somebody's, later")
        assert record(writer).name == "episode_000009.npz"
    assert (tmp_path / "episode_000007.npz").read_bytes() == b"mine"
    assert (tmp_path / "episode_000008.npz").read_bytes() == b"somebody's, later"


def test_a_number_is_not_given_again_when_its_sealed_file_is_gone(tmp_path: Path) -> None:
    early = RolloutWriter(tmp_path, fps=20)
    with RolloutWriter(tmp_path, fps=20) as writer:
        record(writer).unlink()
    for later in (early, RolloutWriter(tmp_path, fps=20)):
        assert record(later).name == f"episode_00000{1 + (later is not early)}.npz"


def test_the_seal_grows_and_sha256sum_accepts_it(tmp_path: Path) -> None:
    for count in (1, 2):
        with RolloutWriter(tmp_path, fps=20) as writer:
            record(writer)
        assert list(read_seal(tmp_path) or ()) == numbered(count)
    subprocess.run(["sha256sum", "--check", "--quiet", SEAL], cwd=tmp_path, check=True)


def test_the_seal_is_not_rewritten_for_every_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count(100.0, 4.0)  # an episode takes 4 s
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    writer = RolloutWriter(tmp_path, fps=20)
    sealed = []
    for _ in range(8):
        record(writer)
        sealed.append(len(read_seal(tmp_path) or ()))
    assert sealed == sorted(sealed)
    assert 2 <= len(set(sealed)) < 8
    writer.close()
    assert len(read_seal(tmp_path) or ()) == 8


def test_a_seal_that_cannot_be_read_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    (tmp_path / SEAL).write_text("nonsense\n")
    with pytest.raises(UsageError, match="E001"):
        RolloutWriter(tmp_path, fps=20)


# What dies and fails


WRITE = """
import sys, time
import numpy as np
from vla_data.recording import RolloutWriter

folder, me, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random = np.random.default_rng(me)
with RolloutWriter(folder, fps=20) as writer:
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(count):
        episode = writer.episode(task=f"process {me} episode {n}")
        for t in range(3):
            image = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            episode.add(image=image, action=np.full(7, n), success=True)
        episode.end()
"""


def start(folder: Path, me: int, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITE, str(folder), str(me), str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"


def go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    process.stdin.flush()


def test_processes_that_write_at_once_do_not_collide(tmp_path: Path) -> None:
    running = [start(tmp_path, me, 25) for me in range(3)]
    for process in running:
        ready(process)
    for process in running:
        go(process)
    for process in running:
        _, problems = process.communicate(timeout=60)
        assert (process.returncode, problems) == (0, b"")
    assert names(tmp_path) == [SEAL, *numbered(75)]
    assert sorted(episode.task for episode in read(tmp_path)) == sorted(
        f"process {me} episode {n}" for me in range(3) for n in range(25)
    )
    assert read_seal(tmp_path) == {name: sha256(tmp_path / name) for name in numbered(75)}


def test_killed_at_any_moment_all_that_is_there_is_whole(tmp_path: Path) -> None:
    """25 kills, one folder: what was left of the one before must not stop the next."""
    moments = random.Random(0)
    for me in range(25):
        process = start(tmp_path, me, 10_000)
        ready(process)
        go(process)
        time.sleep(moments.uniform(0, 0.08))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    episodes = read(tmp_path)  # checks the seal too: a changed file is E132, a missing one E133
    assert len(episodes) > 25
    with RolloutWriter(tmp_path, fps=20) as writer:
        record(writer)
    assert len(read(tmp_path)) == len(episodes) + 1
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.fixture
def _no_hook() -> Iterator[None]:
    yield
    io.hook = None


@pytest.mark.usefixtures("_no_hook")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_every_write_that_fails_can_be_done_again(code: int, tmp_path: Path) -> None:
    """Each input or output of recording fails once; the episode is there once, and sealed."""
    for failing in itertools.count():
        folder = tmp_path / str(failing)
        writer = RolloutWriter(folder, fps=20)
        episode = writer.episode(task="lift")
        episode.add(**STEP)
        calls = itertools.count()

        def hook(name: str, path: Path, calls: Iterator[int] = calls, failing: int = failing) -> None:
            if next(calls) == failing:
                raise OSError(code, os.strerror(code), str(path))

        io.hook = hook
        failed = 0
        try:
            episode.end(image=IMAGES[1])
        except MachineError:
            failed += 1
            if not writer.written:
                episode.end(image=IMAGES[1])
        try:
            writer.close()
        except MachineError:
            failed += 1
            writer.close()
        io.hook = None
        assert (names(folder), writer.lost) == ([SEAL, *numbered(1)], ())
        assert not list(folder.glob(".*.tmp"))
        assert read_seal(folder) == {numbered(1)[0]: sha256(writer.written[0])}
        if not failed:
            assert failing > 10  # places where it can fail
            break


@pytest.mark.usefixtures("_no_hook")
def test_the_seal_follows_the_file_that_it_names(tmp_path: Path) -> None:
    """After a power cut at any point, no seal may name a file that had not reached the disk."""
    seen: list[tuple[str, str]] = []
    io.hook = lambda name, path: seen.append((name, path.name))
    writer = RolloutWriter(tmp_path, fps=20)
    record(writer)
    published = seen.index(("rename", "episode_000000.npz"))
    step, half = seen[published - 1]
    assert step == "fsync"
    assert io.is_unforeseen(half, "episode_000000.npz")
    assert ("fsync", tmp_path.name) in seen[published : seen.index(("rename", SEAL))]


# Cost


def test_memory_is_that_of_the_encoded_images(tmp_path: Path) -> None:
    """Flat images: 60 of 480x640 are 55 MB of pixels and less than 1 MB encoded. Ending it copies nothing."""
    image = np.zeros((480, 640, 3), np.uint8)
    noise = RANDOM.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    with RolloutWriter(tmp_path, fps=20) as writer:
        for pixels in (image, noise):
            episode = writer.episode(task="lift")
            tracemalloc.start()
            for _ in range(60):
                episode.add(image=pixels, action=ACTION, success=False)
            tracemalloc.reset_peak()
            size = episode._bytes
            episode.end()
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 1.2 * size + 2_000_000


@pytest.mark.parametrize("digits", [19, 240, 5000])
def test_a_seal_of_a_stranger_gives_no_number_that_is_none(digits: int, tmp_path: Path) -> None:
    name = f"episode_{'9' * digits}.npz"
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  {name}\n")
    with vd.RolloutWriter(tmp_path, fps=5) as writer:
        episode = writer.episode(task="t")
        episode.add(image=np.zeros((8, 8, 3), np.uint8), action=np.zeros(7, np.float32), success=True)
        assert episode.end(image=np.zeros((8, 8, 3), np.uint8)).name == "episode_000000.npz"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_comes_at_the_last_moment_is_not_replaced(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no hard links, one that was there before."""
    from vla_data.files import write

    def others(step: str, path: Path) -> None:
        if step == ("rename" if links else "lock") and not (tmp_path / "episode_000000.npz").exists():
            (tmp_path / "episode_000000.npz").write_bytes(b"precious")

    if not links:
        monkeypatch.setattr(write, "_named", lambda *_: False)
    with vd.RolloutWriter(tmp_path, fps=5) as writer:
        monkeypatch.setattr(write, "hook", others)
        episode = writer.episode(task="t")
        episode.add(image=np.zeros((8, 8, 3), np.uint8), action=np.zeros(7, np.float32), success=True)
        assert episode.end(image=np.zeros((8, 8, 3), np.uint8)).name == "episode_000001.npz"
    assert (tmp_path / "episode_000000.npz").read_bytes() == b"precious"
    assert not list(tmp_path.glob(".*.tmp"))
