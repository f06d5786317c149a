"""Vector environments: every episode has its own steps and no others, in each mode of automatic resets."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.recording.test_features import pixels, read
from vla_data.errors import MachineError, RecordError
from vla_data.files import write as io
from vla_data.recording.vector import Autoreset

LENGTHS = (3, 4, 6)
MODES: tuple[Autoreset, ...] = ("next_step", "same_step", "disabled")


def seen(i: int, n: int, t: int) -> dict[str, Any]:
    """What environment ``i`` sees before step ``t`` of its episode ``n``."""
    image = np.full((4, 4, 3), 50 * i + 10 * n + t, np.uint8)
    return {"observation.images.top": image, "observation.state": np.array([i, n, t], np.float32)}


def stacked(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


class Environments:
    """Three environments with episodes of 3, 4 and 6 steps, which reset themselves as gymnasium's do."""

    def __init__(self, mode: Autoreset) -> None:
        self.mode = mode
        self.n, self.t = [0, 0, 0], [0, 0, 0]
        self.done = [False] * 3

    def now(self) -> dict[str, Any]:
        return stacked([seen(i, self.n[i], self.t[i]) for i in range(3)])

    def step(self) -> tuple[dict[str, Any], list[dict[str, Any] | None]]:
        """What is seen after the step, and what an episode that it ended saw last."""
        final: list[dict[str, Any] | None] = [None] * 3
        for i in range(3):
            if self.mode == "next_step" and self.done[i]:
                self.reset(i)
                continue
            self.t[i] += 1
            self.done[i] = self.t[i] == LENGTHS[i]
            if self.done[i] and self.mode == "same_step":
                final[i] = seen(i, self.n[i], self.t[i])
        ended = list(self.done)
        if self.mode == "same_step":
            for i in range(3):
                if self.done[i]:
                    self.reset(i)
        self.done = ended
        return self.now(), final

    def reset(self, i: int) -> None:
        self.n[i], self.t[i], self.done[i] = self.n[i] + 1, 0, False


def actions(before: dict[str, Any]) -> dict[str, Any]:
    return {"action": before["observation.state"] * 2}


def collect(recorder: vd.VectorRecorder, mode: Autoreset, steps: int) -> list[dict[int, Path]]:
    env = Environments(mode)
    before = env.now()
    files = []
    for _ in range(steps):
        after, final = env.step()
        flags = {"next.terminated": np.array(env.done), "next.truncated": np.zeros(3, bool)}
        last: dict[str, Any] = {"final": final} if mode == "same_step" else {"after": after}
        files.append(recorder.add({**before, **actions(before), **flags}, **last))
        if mode == "disabled":
            for i in np.flatnonzero(env.done):
                env.reset(int(i))
            after = env.now()
        before = after
    return files


def check(folder: Path, *, complete: bool = True) -> dict[tuple[int, int], int]:
    """(Environment, episode) -> steps, of all episodes, each of which has its own steps alone."""
    out = {}
    for episode in read(folder):
        i, n = episode.meta["episode_metadata"]["environment"], int(episode.arrays["observation.state"][0, 1])
        want = [seen(i, n, t) for t in range(len(episode) + 1)]
        states = np.stack([row["observation.state"] for row in want])
        np.testing.assert_array_equal(episode.arrays["observation.state"], states[:-1])
        np.testing.assert_array_equal(episode.arrays["action"], states[:-1] * 2)
        np.testing.assert_array_equal(episode.final["observation.state"], states[-1:])  # type: ignore[arg-type]
        images = [row["observation.images.top"] for row in want]
        np.testing.assert_array_equal(pixels(episode.frames["observation.images.top"]), images[:-1])
        np.testing.assert_array_equal(pixels(episode.final["observation.images.top"]), images[-1:])
        assert episode.arrays["next.terminated"].tolist() == [t == LENGTHS[i] - 1 for t in range(len(episode))]
        assert (i, n) not in out
        out[i, n] = len(episode)
    return out


def begin(writer: vd.RolloutWriter) -> Callable[[int], Any]:
    return lambda i: writer.episode(task=f"environment {i}", facts={"environment": i})


@pytest.mark.parametrize("mode", MODES)
def test_every_episode_has_its_own_steps(mode: Autoreset, tmp_path: Path) -> None:
    with vd.RolloutWriter(tmp_path, fps=10) as writer:
        recorder = vd.VectorRecorder(begin(writer), 3, autoreset=mode)
        files = collect(recorder, mode, 13)
        recorder.discard()
    found = check(tmp_path)
    pause = mode == "next_step"  # one step of each reset
    assert found == {
        (i, n): length for i, length in enumerate(LENGTHS) for n in range((13 + pause) // (length + pause))
    }
    assert sorted(path for ended in files for path in ended.values()) == sorted(writer.written)
    assert writer.lost == ()


def test_what_is_open_can_be_ended_as_it_is(tmp_path: Path) -> None:
    with vd.RolloutWriter(tmp_path, fps=10) as writer:
        recorder = vd.VectorRecorder(begin(writer), 3)
        collect(recorder, "next_step", 2)
        assert recorder.open.keys() == {0, 1, 2}
        files = recorder.end(stacked([seen(i, 0, 2) for i in range(3)]), facts={"cut": True})
        assert (files.keys(), dict(recorder.open)) == ({0, 1, 2}, {})
    assert check(tmp_path) == {(0, 0): 2, (1, 0): 2, (2, 0): 2}
    assert all(episode.meta["episode_metadata"]["cut"] for episode in read(tmp_path))


def test_rows_that_are_not_wanted_are_left_out(tmp_path: Path) -> None:
    with vd.RolloutWriter(tmp_path, fps=10) as writer:
        recorder = vd.VectorRecorder(begin(writer), 3, autoreset="disabled")
        before = stacked([seen(i, 0, 0) for i in range(3)])
        flags = {"next.done": [True, True, True]}
        files = recorder.add({**before, **flags}, only=np.array([False, True, False]))
    assert files.keys() == {1}
    assert [episode.meta["episode_metadata"]["environment"] for episode in read(tmp_path)] == [1]


FLAGS = {"next.terminated": np.array([False, False, True]), "next.truncated": np.zeros(3, bool)}
ROWS = stacked([seen(i, 0, 0) for i in range(3)])
BAD: dict[str, tuple[Autoreset, dict[str, Any], dict[str, Any], str]] = {
    "fewer rows": ("next_step", {"value": [1.0, 2.0]}, {}, "E204 .*value has 2 rows for 3 environments"),
    "a number": ("next_step", {"value": 1.0}, {}, "E204 .*value is a float, not 3 rows"),
    "a row not finite": (
        "next_step",
        {"value": [0.0, 1.0, np.nan]},
        {},
        "E201 .*environment 2: step 0: value is nan",
    ),
    "flags of numbers": ("next_step", {"next.done": [0, 0, 1]}, {}, "E205 .*next.done is int64"),
    "a last one of another size": (
        "next_step",
        {},
        {"after": {"observation.state": np.zeros((3, 2), np.float32)}},
        r"E203 .*environment 2: the end: observation.state has shape \(2,\), not \(3,\)",
    ),
    "a last one that is none": (
        "next_step",
        {},
        {"after": {"action": np.zeros((3, 2))}},
        "E206 .*2: the end: action",
    ),
    "no last one": ("same_step", {}, {}, "E206 .*environment 2 ended, but final lacks what it saw last"),
    "the next one's first": (
        "same_step",
        {},
        {"after": ROWS},
        "E001 .*after belongs to the next episode; give final",
    ),
    "final in another mode": (
        "disabled",
        {},
        {"final": [None] * 3},
        "E001 .*final works with autoreset same_step",
    ),
    "an odd mask": ("next_step", {}, {"only": [1, 0, 1]}, r"E204 .*only is int64\(3,\), not True or False"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_call_records_nothing(case: str, tmp_path: Path) -> None:
    mode, features, last, message = BAD[case]
    with vd.RolloutWriter(tmp_path, fps=10) as writer:
        recorder = vd.VectorRecorder(begin(writer), 3, autoreset=mode)
        with pytest.raises(RecordError, match=message):
            recorder.add({**ROWS, **FLAGS, **features}, **last)
        assert (recorder.open, writer.lost, writer.written) == ({}, (), [])


def test_without_ends_there_are_no_episodes(tmp_path: Path) -> None:
    recorder = vd.VectorRecorder(begin(vd.RolloutWriter(tmp_path, fps=10)), 3)
    with pytest.raises(RecordError, match=r"E206 .*give one of next.terminated, next.truncated, next.done"):
        recorder.add(ROWS)


def test_a_full_disk_costs_no_step(tmp_path: Path) -> None:
    writer = vd.RolloutWriter(tmp_path, fps=10)
    recorder = vd.VectorRecorder(begin(writer), 3)
    flags = {"next.done": np.array([True, True, False])}

    def fail(name: str, path: Path) -> None:
        if name == "write" and path.name.startswith(".episode_000001"):
            raise OSError(28, "No space left on device")

    io.hook = fail
    try:
        with pytest.raises(MachineError, match="E701"):
            recorder.add({**ROWS, **flags}, ROWS)
    finally:
        io.hook = None
    assert recorder.open.keys() == {1, 2}
    assert recorder.flush().keys() == {1}
    recorder.discard()
    writer.close()
    assert [len(episode) for episode in read(tmp_path)] == [1, 1]


def test_threads_share_a_writer(tmp_path: Path) -> None:
    """Each has episodes of its own; no number is given twice, and the seal names every file."""
    with vd.RolloutWriter(tmp_path, fps=10) as writer:
        start = threading.Barrier(4)

        def work() -> None:
            start.wait()
            for _ in range(2):
                recorder = vd.VectorRecorder(begin(writer), 3, autoreset="disabled")
                collect(recorder, "disabled", 3)
                recorder.discard()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (len(writer.written), len(set(writer.written)), writer.lost) == (8, 8, ())
    assert [len(episode) for episode in read(tmp_path)] == [3] * 8  # the seal is checked, too


def test_a_forked_process_is_told_to_make_its_own_writer(tmp_path: Path) -> None:
    writer = vd.RolloutWriter(tmp_path, fps=10)
    episode = writer.episode(task="lift")
    episode.add({"value": 1.0})
    reader, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        said = []
        for call in (lambda: writer.episode(task="lift"), lambda: episode.add({"value": 2.0}), episode.end):
            try:
                call()
            except RecordError as error:
                said.append(f"{error.code} {'made in another process' in error.message}")
        writer.close()  # as `with` does on the way out
        os.write(pipe, ";".join(said).encode())
        os._exit(0)
    os.close(pipe)
    with os.fdopen(reader) as told:
        assert told.read() == "E001 True;E001 True;E001 True"
    os.waitpid(child, 0)
    episode.add({"value": 2.0})
    episode.end()
    writer.close()
    assert [len(found) for found in read(tmp_path)] == [2]
