"""Records rollouts while they happen: a few lines in a collection loop.

with vd.RolloutWriter("rollouts", fps=5) as writer:
    episode = writer.episode(task="put carrot on plate")
    observation, done = env.reset(), False
    while not done:
        image, action = observation["image"], policy(observation)
        observation, reward, done, info = env.step(action)
        episode.add(image=image, action=action, success=info["success"], reward=reward)
    episode.end(image=observation["image"])

Files are in the layouts of `vla_data.recording.npz`, where that can hold an episode, and of
`vla_data.recording.recorded`:
no pickle, and `vla_data.open_source` reads them.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import re
import stat
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, get_args

from vla_data import options as checks
from vla_data.core import Feature
from vla_data.errors import DataError, RecordError
from vla_data.files.sums import SEAL, format_sums, read_seal
from vla_data.files.write import Piece, is_unforeseen, machine_errors, make_folder, step, sync_folder, write_file
from vla_data.media.images import Encoding
from vla_data.recording.declared import check_features
from vla_data.recording.episode import OpenEpisode
from vla_data.recording.facts import as_facts
from vla_data.recording.npz import Member, npz_pieces
from vla_data.safety.text import instruction, show

LOCK: Final = ".vla-data.lock"
SEAL_EVERY: Final = 10.0  # seconds; the seal is written whole, so after every episode would cost n² for n
_FILE: Final = re.compile(r"episode_([0-9]{6,18})\.npz")


@dataclass(frozen=True, slots=True, kw_only=True)
class LostEpisode:
    """An episode that was begun and neither ended nor discarded: nothing of it is written.

    Attributes:
        number: how many episodes the writer had begun before it.
        task: its instruction.
        steps: how many had been added.
    """

    number: int
    task: str
    steps: int


class RolloutWriter:
    """Writes each episode that ends as ``episode_000000.npz`` and so on into a folder, whole or not at all.

    Several episodes may be open at once, for vectorised environments, and several processes may write into one
    folder, each with its own writer: a number is given when an episode ends, under a lock, and never twice.
    Existing files are not touched. Images are encoded as they come, so that an open episode needs the memory
    of its encoded images and its numbers.

    Threads may share a writer, each with episodes of its own. A process that was forked may not: there every call
    is refused (E001), and `close` does nothing.

    ``SHA256SUMS``, the folder's seal, is brought up to date at most every ten seconds and on `close`. A file is
    always on the disk before the seal names it: after a crash the last files may be unsealed, which readers
    accept and the next writer's files don't change (``vla-data seal`` adds them), but none is refused.

    Attributes:
        folder: where the files go.
        fps: control rate in steps per second, kept in every file.
        images: "png" (lossless) or "jpeg" (quality 95, 4:2:0; about a sixth of the size and a tenth of the time).
        features: what every step has at least, by LeRobot's names: type, shape, names of the elements, convention.
            Values are cast to the declared type where that loses nothing but places of a float.
        robot: robot type, or None.
        written: the files of this writer, in the order in which their episodes ended.

    Raises:
        ValueError: an option makes no sense.
        RecordError: a declared feature makes none.
        UsageError: E001, the folder has a seal that can't be read.
        MachineError: E701 to E703, the folder can't be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        fps: float,
        images: Encoding = "png",
        features: Mapping[str, Feature] | None = None,
        robot: str | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.fps = checks.number("fps", fps, low=1e-3, high=1e6)
        checks.one_of("images", images, get_args(Encoding))
        self.images: Encoding = images
        self.features: Mapping[str, Feature] = check_features(features)
        if robot is not None and (not isinstance(robot, str) or not robot.isprintable()):
            raise ValueError(f"robot is {robot!r}, not a name")
        self.robot = robot
        self.written: list[Path] = []
        self._begun = itertools.count()
        # Tallies, not the episodes themselves: an episode that the caller drops gives its memory back.
        self._open: dict[int, LostEpisode] = {}
        self._unsealed: dict[str, str] = {}
        self._sealed_at = -SEAL_EVERY
        self._closed = False
        self._process = os.getpid()
        # For what episodes of several threads share. The folder's own lock keeps out other processes.
        self._shared = threading.RLock()
        with machine_errors("cannot record"):
            make_folder(self.folder)
            with self._locked():
                self._remove_halves()
                taken = (*os.listdir(self.folder), *(read_seal(self.folder) or ()))
        self._next = max((int(match[1]) + 1 for match in map(_FILE.fullmatch, taken) if match), default=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(warn=error is None)  # with an error, that is what the user has to see

    def episode(self, *, task: str, facts: Mapping[str, Any] | None = None) -> OpenEpisode:
        """A new episode; others may be open.

        Args:
            task: its instruction, of at most 1,024 characters.
            facts: of the whole episode, for example ``{"seed": 7, "init_hash": "9f3a", "policy_version": 12}``:
                any values that JSON has. Readers have them in ``Episode.meta.episode_metadata``.

        Raises:
            RecordError: the instruction is empty or can't be stored, a fact is no JSON, or the writer is closed.
        """
        self._check_process()
        if self._closed:
            raise RecordError("E001", "the writer is closed")
        if not isinstance(task, str):
            raise RecordError("E212", f"task is a {type(task).__name__}, not a text")
        try:
            instruction(task)
        except DataError as error:
            raise RecordError(error.code, f"task: {error.message}") from None
        known = as_facts(facts)
        number = next(self._begun)
        self._count(number, task, 0)
        return OpenEpisode(self, number, task, known)

    @property
    def lost(self) -> tuple[LostEpisode, ...]:
        """The episodes that were begun and neither ended nor discarded; until `close` they still may be."""
        with self._shared:
            return tuple(self._open.values())

    def close(self) -> None:
        """Seal what was written. Episodes that are still open are lost, and a warning says so.

        Closing again does nothing.

        Raises:
            MachineError: the seal can't be written; the rollouts are there, and closing again tries again.
        """
        self._close(warn=True)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RecordError(
                "E001", "the writer was made in another process; make one in each, for the same folder"
            )

    def _count(self, number: int, task: str, steps: int) -> None:
        """Note how long an open episode is by now."""
        with self._shared:
            self._open[number] = LostEpisode(number=number, task=task, steps=steps)

    def _forget(self, number: int) -> None:
        with self._shared:
            self._open.pop(number, None)

    def _close(self, *, warn: bool) -> None:
        if os.getpid() != self._process:
            return
        with self._shared:
            first, self._closed = not self._closed, True
        with machine_errors(f"cannot write {SEAL}"), self._locked():
            sync_folder(self.folder)
            self._seal()
            sync_folder(self.folder)
        if warn and first and self._open:
            what = ", ".join(f"{show(lost.task)!r} after {lost.steps:,} steps" for lost in self.lost[:3])
            warnings.warn(
                f"{len(self._open)} episodes were not ended and are not written: {what}"
                + (", ..." if len(self._open) > 3 else ""),
                stacklevel=3,
            )

    def _publish(self, members: Mapping[str, Member]) -> Path:
        """Write an episode under the next free number."""
        with machine_errors("cannot write the episode"), self._locked():
            sealed = read_seal(self.folder) or {}
            while True:
                name = f"episode_{self._next:06}.npz"
                # A number whose file was removed stays taken: the seal would refuse another file of that name.
                if name in sealed or os.path.lexists(self.folder / name):
                    self._next += 1
                    continue
                sha256 = hashlib.sha256()
                with suppress(FileExistsError):  # of somebody who does not hold the lock
                    write_file(self.folder / name, _hashed(npz_pieces(members), sha256), new=True)
                    break
            self._unsealed[name] = sha256.hexdigest()
            self.written.append(self.folder / name)
        return self.folder / name

    def _settle(self) -> None:
        """Make what was published durable; and now and then seal it."""
        with machine_errors(f"cannot sync or seal {show(self.folder.name)}"):
            if time.monotonic() - self._sealed_at < SEAL_EVERY:
                sync_folder(self.folder)
                return
            # Under the lock, or another thread's file might get into the seal before its name is on the disk.
            with self._locked():
                sync_folder(self.folder)
                self._seal()

    def _seal(self) -> None:
        if self._unsealed:
            # The names were synced by now: a seal that outlived its files would call them missing.
            write_file(self.folder / SEAL, format_sums({**(read_seal(self.folder) or {}), **self._unsealed}))
            self._unsealed = {}
        self._sealed_at = time.monotonic()

    def _remove_halves(self) -> None:
        """Remove what writers left that were killed: who holds the lock knows that nobody is writing them."""
        for name in os.listdir(self.folder):
            own = next((of for of in (name[1:-37], SEAL) if is_unforeseen(name, of)), None)
            path = self.folder / name
            if own is not None and (own == SEAL or _FILE.fullmatch(own)) and stat.S_ISREG(path.lstat().st_mode):
                path.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep the folder's other writers out; the kernel frees the lock when a process dies.

        The lock is a file of its own and not the folder, which NFS can't lock.
        """
        with self._shared:
            step("lock", self.folder / LOCK)
            handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)


def _hashed(pieces: Iterator[bytes], sha256: Any) -> Iterator[Piece]:
    for piece in pieces:
        sha256.update(piece)
        yield piece
