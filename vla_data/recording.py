"""Records rollouts while they happen: a few lines in a collection loop.

with vd.RolloutWriter("rollouts", fps=5) as writer:
    episode = writer.episode(task="put carrot on plate")
    observation, done = env.reset(), False
    while not done:
        image, action = observation["image"], policy(observation)
        observation, reward, done, info = env.step(action)
        episode.add(image=image, action=action, success=info["success"], reward=reward)
    episode.end(image=observation["image"])

Files are in the layout of `vla_data.files.npz`: no pickle, and `vla_data.open_source` reads them.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import re
import stat
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, get_args

import numpy as np
from numpy.typing import NDArray

from vla_data import options as checks
from vla_data.errors import DataError
from vla_data.files.npz import Member, image_members, npz_pieces
from vla_data.files.sums import SEAL, format_sums, read_seal
from vla_data.files.write import Piece, is_unforeseen, machine_errors, make_folder, step, sync_folder, write_file
from vla_data.media.images import MAX_SIDE, Encoding, Pixels, encode
from vla_data.safety.files import MAX_FILE
from vla_data.safety.text import instruction, show

LOCK: Final = ".vla-data.lock"
MAX_BYTES: Final = MAX_FILE - (64 << 20)  # of encoded images; readers refuse larger files, numbers need room too
SEAL_EVERY: Final = 10.0  # seconds; the seal is written whole, so after every episode would cost n² for n
_FILE: Final = re.compile(r"episode_([0-9]{6,})\.npz")
_INFO_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")  # what the reader keeps
_ACTION_SIZE: Final = 7


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
    of its encoded images.

    ``SHA256SUMS``, the folder's seal, is brought up to date at most every ten seconds and on `close`. A file is
    always on the disk before the seal names it: after a crash the last files may be unsealed, which readers
    accept and the next writer's files don't change (``vla-data seal`` adds them), but none is refused.

    Attributes:
        folder: where the files go.
        fps: control rate in steps per second, kept in every file.
        images: "png" (lossless) or "jpeg" (quality 95, 4:2:0; about a sixth of the size and a tenth of the time).
        written: the files of this writer, in the order in which their episodes ended.

    Raises:
        ValueError: an option makes no sense.
        UsageError: E001, the folder has a seal that can't be read.
        MachineError: E701 to E703, the folder can't be written.
    """

    def __init__(self, folder: str | os.PathLike[str], *, fps: float, images: Encoding = "png") -> None:
        self.folder = Path(folder)
        self.fps = checks.number("fps", fps, low=1e-3, high=1e6)
        checks.one_of("images", images, get_args(Encoding))
        self.images: Encoding = images
        self.written: list[Path] = []
        self._begun = itertools.count()
        # Tallies, not the episodes themselves: an episode that the caller drops gives its memory back.
        self._open: dict[int, LostEpisode] = {}
        self._unsealed: dict[str, str] = {}
        self._sealed_at = -SEAL_EVERY
        self._closed = False
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

    def episode(self, *, task: str) -> OpenEpisode:
        """A new episode with an instruction of at most 1,024 characters; others may be open.

        Raises:
            ValueError: the instruction is empty or can't be stored, or the writer is closed.
        """
        if self._closed:
            raise ValueError("the writer is closed")
        if not isinstance(task, str):
            raise ValueError(f"task is a {type(task).__name__}, not a text")
        try:
            instruction(task)
        except DataError as error:
            raise ValueError(f"task: {error.message}") from None
        return OpenEpisode(self, next(self._begun), task)

    @property
    def lost(self) -> tuple[LostEpisode, ...]:
        """The episodes that were begun and neither ended nor discarded; until `close` they still may be."""
        return tuple(self._open.values())

    def close(self) -> None:
        """Seal what was written. Episodes that are still open are lost, and a warning says so.

        Closing again does nothing.

        Raises:
            MachineError: the seal can't be written; the rollouts are there, and closing again tries again.
        """
        self._close(warn=True)

    def _close(self, *, warn: bool) -> None:
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
        sha256 = hashlib.sha256()
        with machine_errors("cannot write the episode"), self._locked():
            sealed = read_seal(self.folder) or {}
            while True:
                name = f"episode_{self._next:06}.npz"
                # A number whose file was removed stays taken: the seal would refuse another file of that name.
                if name not in sealed and not os.path.lexists(self.folder / name):
                    break
                self._next += 1
            write_file(self.folder / name, _hashed(npz_pieces(members), sha256))
            self._unsealed[name] = sha256.hexdigest()
            self.written.append(self.folder / name)
        return self.folder / name

    def _settle(self) -> None:
        """Make what was published durable; and now and then seal it."""
        with machine_errors(f"cannot sync or seal {show(self.folder.name)}"):
            sync_folder(self.folder)
            if time.monotonic() - self._sealed_at >= SEAL_EVERY:
                with self._locked():
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
        step("lock", self.folder / LOCK)
        handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


class OpenEpisode:
    """An episode that is being recorded; `RolloutWriter.episode` makes it.

    What is given is copied or encoded at once, so the environment may reuse its arrays. Bad input raises
    ValueError with the step's number, and the episode is as it was before the call.
    """

    def __init__(self, writer: RolloutWriter, number: int, task: str) -> None:
        self._writer = writer
        self._number = number
        self._task = task
        self._done = False
        self._steps = 0
        self._size: tuple[int, ...] = ()
        self._bytes = 0
        self._images: list[bytes] = []
        self._actions: list[NDArray[np.float32]] = []
        self._states: list[NDArray[np.float32]] = []
        self._info: dict[str, list[Any]] = {}
        writer._open[number] = LostEpisode(number=number, task=task, steps=0)

    def __len__(self) -> int:
        """How many steps were added."""
        return self._steps

    def add(
        self,
        *,
        image: Any,
        action: Any,
        success: Any,
        reward: Any = None,
        state: Any = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        """Add one step: what was seen before the action, the action, and what came of it.

        ``reward``, ``state`` and the keys of ``info`` are given in every step of an episode or in none.

        Args:
            image: before the action, ``(height, width, 3)`` uint8 RGB, upright; of one size.
            action: ``(7,)`` numbers, kept as float32: translation (m), rotation (rad), gripper (+1 open, -1
                closed).
            success: after the action, True or False.
            reward: after the action, a finite number.
            state: of the robot before the action, ``(D,)`` finite numbers, kept as float32.
            info: what else the environment says after the action, by name: a number or flag each. In
                ``elapsed_steps``, which must grow, the infos of another step or episode are noticed.

        Raises:
            ValueError: a value has the wrong type, shape or size, or is not finite; nothing is added.
        """
        self._check_open()
        t = len(self)
        where = f"step {t}"
        pixels = self._pixels(where, image)
        row = _vector(where, "action", action, _ACTION_SIZE)
        state = self._state(where, state, first=t == 0)
        told = self._told(where, success, reward, info)
        # Everything has been checked: from here on only encoding can fail, for want of memory.
        self._append(where, pixels)
        self._actions.append(row)
        if state is not None:
            self._states.append(state)
        for key, value in told.items():
            self._info.setdefault(key, []).append(value)
        self._steps += 1
        self._writer._open[self._number] = LostEpisode(number=self._number, task=self._task, steps=self._steps)

    def end(self, *, image: Any = None, state: Any = None) -> Path:
        """Write the episode, and return its file.

        Args:
            image: after the last action. Vectorised environments that reset by themselves return the next
                episode's first image in its place, and this one in the info (Gym: ``final_observation``).
            state: after the last action, if the steps have states.

        Raises:
            ValueError: there are no steps, the image or state is not like the others, or the episode has ended.
            MachineError: E701 to E703, the disk is full or failed. Unless the file is among the writer's
                ``written``, the episode is still open, and ``end`` may be called again.
        """
        self._check_open()
        if not self._actions:
            raise ValueError("the episode has no steps: add them before the end, or discard it")
        where = "the end"
        if state is not None and not self._states:
            raise ValueError(f"{where}: there is a state, but the steps have none")
        last = [] if state is None else [_vector(where, "state", state, len(self._states[0]))]
        images = self._images
        if image is not None:
            images = [*images, encode(self._pixels(where, image), self._writer.images)]
        # The reader tells by this that infos are of after the action, also where there is no last image.
        counter = {"elapsed_steps": np.arange(1, len(self) + 1)}
        members: dict[str, Member] = {
            "action": np.stack(self._actions),
            "fps": np.asarray(self._writer.fps),
            "instruction": np.asarray(self._task),
            **image_members(images),
            **{f"info.{key}": np.asarray(column) for key, column in (counter | self._info).items()},
        }
        if self._states:
            members["state"] = np.stack([*self._states, *last])
        path = self._writer._publish(members)
        self._forget()
        self._writer._settle()
        return path

    def discard(self) -> None:
        """Forget the episode on purpose: it is not written, and not counted as lost."""
        self._check_open()
        self._forget()

    def _check_open(self) -> None:
        if self._done:
            raise ValueError("the episode has ended; the writer's episode() begins a new one")
        if self._writer._closed:
            raise ValueError("the writer is closed, and this episode lost")

    def _forget(self) -> None:
        self._done = True
        self._writer._open.pop(self._number, None)
        self._images, self._actions, self._states, self._info = [], [], [], {}

    def _pixels(self, where: str, image: Any) -> Pixels:
        pixels = _array(where, "image", image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(
                f"{where}: image is of {pixels.dtype} and shape {pixels.shape}, not uint8 and (height, width, 3)"
            )
        if not 1 <= min(pixels.shape[:2]) <= max(pixels.shape[:2]) <= MAX_SIDE:
            raise ValueError(f"{where}: image has shape {pixels.shape}; a side has 1 to {MAX_SIDE:,} pixels")
        if self._size and pixels.shape[:2] != self._size:
            have, was = ("x".join(map(str, size)) for size in (pixels.shape[:2], self._size))
            raise ValueError(f"{where}: image is {have}, and the ones before are {was}")
        return pixels

    def _append(self, where: str, pixels: Pixels) -> None:
        data = encode(pixels, self._writer.images)
        if self._bytes + len(data) > MAX_BYTES:
            raise ValueError(f"{where}: the episode's images take {MAX_BYTES / 1e9:.1f} GB; end it before this")
        self._images.append(data)
        self._bytes += len(data)
        self._size = pixels.shape[:2]

    def _state(self, where: str, state: Any, *, first: bool) -> NDArray[np.float32] | None:
        if not first and (state is None) != (not self._states):
            raise ValueError(
                f"{where}: state is {'missing' if self._states else 'new'}; give it in all steps or none"
            )
        if state is None:
            return None
        return _vector(where, "state", state, len(self._states[0]) if self._states else None)

    def _told(self, where: str, success: Any, reward: Any, info: Mapping[str, Any] | None) -> dict[str, Any]:
        """What the environment said after the action, by the name of its column."""
        told = {"success": _scalar(where, "success", success, "b", "True or False")}
        if reward is not None:
            told["reward"] = _scalar(where, "reward", reward, "iuf", "a number")
            if not np.isfinite(told["reward"]):
                raise ValueError(f"{where}: reward is {told['reward']}")
        for key, value in (info or {}).items():
            if key in ("success", "reward"):
                raise ValueError(f"{where}: info has {key!r}, which is an argument of its own")
            if not isinstance(key, str) or not _INFO_KEY.fullmatch(key):
                raise ValueError(f"{where}: info's key {key!r} is not a name")
            told[key] = _scalar(where, f"info[{key!r}]", value, "biuf", "a number or flag")
        if self._info and told.keys() != self._info.keys():
            changed = ", ".join(sorted(told.keys() ^ self._info.keys()))
            raise ValueError(f"{where}: {changed} {_not_in_all(told, self._info)}; give each in all steps or none")
        for key, column in self._info.items():
            if (column[0].dtype.kind == "b") != (told[key].dtype.kind == "b"):
                raise ValueError(f"{where}: {key} is {told[key]}, and {column[0]} in step 0")
        if "elapsed_steps" in told:
            self._check_counter(where, told["elapsed_steps"])
        return told

    def _check_counter(self, where: str, now: Any) -> None:
        before = self._info["elapsed_steps"][-1] if self._info else 0
        if now <= before:
            raise ValueError(
                f"{where}: info['elapsed_steps'] is {now} after {before}: this is the info of before the action,"
                " or of the next episode (with automatic resets, take final_info's)"
            )


def _not_in_all(told: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    return "missing" if before.keys() - told.keys() else "not in the steps before"


def _hashed(pieces: Iterator[bytes], sha256: Any) -> Iterator[Piece]:
    for piece in pieces:
        sha256.update(piece)
        yield piece


def _array(where: str, name: str, value: Any) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # ragged lists, and torch tensors on a GPU or with a gradient
        hint = "; for a torch tensor, give .detach().cpu().numpy()" if hasattr(value, "detach") else ""
        raise ValueError(f"{where}: {name} is a {type(value).__name__} that is no array{hint}") from None


def _vector(where: str, name: str, value: Any, size: int | None) -> NDArray[np.float32]:
    """A copy of ``(size,)`` finite numbers as float32."""
    raw = _array(where, name, value)
    if raw.dtype.kind not in "iuf":
        raise ValueError(f"{where}: {name} is of {raw.dtype}, not of numbers")
    if raw.ndim != 1 or raw.size == 0 or (size is not None and len(raw) != size):
        raise ValueError(f"{where}: {name} has shape {raw.shape}, not ({'D' if size is None else size},)")
    with np.errstate(over="ignore"):  # found below
        vector = np.array(raw, dtype=np.float32)
    if not np.isfinite(vector).all():
        d = np.flatnonzero(~np.isfinite(vector))[0]
        raise ValueError(f"{where}: {name}[{d}] is {raw[d]}, not a finite float32")
    return vector


def _scalar(where: str, name: str, value: Any, kinds: str, wanted: str) -> Any:
    """One number or flag as a NumPy scalar, also from an array of one."""
    array = _array(where, name, value)
    if array.size != 1 or array.dtype.kind not in kinds or array.itemsize > 8:
        what = f"of shape {array.shape}" if array.size != 1 else f"{show(repr(value))[:60]}"
        raise ValueError(f"{where}: {name} is {what}, not {wanted}")
    return array.flat[0]
