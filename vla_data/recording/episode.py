"""An episode that is being recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from vla_data.core import Feature, Json, Schema
from vla_data.errors import DataError, RecordError
from vla_data.media.images import Encoding
from vla_data.recording.columns import Column, column_for, declared_column
from vla_data.recording.facts import as_facts
from vla_data.recording.keywords import CAMERA, COUNTER, NOT_GIVEN, STATE, Given, given_by_keyword
from vla_data.recording.layouts import plain_members, recorded_members
from vla_data.recording.npz import Member
from vla_data.recording.recorded import MAX_FEATURES, check_name
from vla_data.safety.files import MAX_FILE

MAX_BYTES: Final = MAX_FILE - (64 << 20)  # readers refuse larger files
LEROBOT_OWN: Final = ("timestamp", "frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True, slots=True)
class Ready:
    """One step that was checked and encoded, and is not in its episode yet."""

    columns: dict[str, Column]
    rows: dict[str, Any]
    size: int
    is_named: bool


class Writer(Protocol):
    """What an episode needs of the `RolloutWriter` that it is of."""

    fps: float
    robot: str | None
    images: Encoding
    features: Mapping[str, Feature]
    _closed: bool

    def _check_process(self) -> None: ...

    def _count(self, number: int, task: str, steps: int) -> None: ...

    def _forget(self, number: int) -> None: ...

    def _publish(self, members: Mapping[str, Member]) -> Path: ...

    def _settle(self) -> None: ...


class OpenEpisode:
    """An episode that is being recorded; `RolloutWriter.episode` makes it.

    What is given is copied or encoded at once, so the environment may reuse its arrays. Bad input raises
    `vla_data.errors.RecordError`, a ValueError with the step's number and a code, and the episode is as it was
    before the call.

    Attributes:
        task: the instruction.
    """

    def __init__(self, writer: Writer, number: int, task: str, facts: Mapping[str, Json]) -> None:
        self.task = task
        self._writer = writer
        self._number = number
        self._facts = dict(facts)
        self._columns: dict[str, Column] = {}
        self._is_named = False
        self._done = False
        self._steps = 0
        self._bytes = 0

    def __len__(self) -> int:
        """How many steps were added."""
        return self._steps

    def add(
        self,
        features: Mapping[str, Any] | None = None,
        /,
        *,
        image: Any = NOT_GIVEN,
        action: Any = NOT_GIVEN,
        success: Any = NOT_GIVEN,
        reward: Any = None,
        state: Any = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        """Add one step: what was seen before the action, the action, and what came of it.

        Each feature is given in every step of an episode or in none, always of one shape and type. Those by name
        and those by keyword may be mixed; without any by name, image, action and success must be there.

        Args:
            features: by LeRobot's names. ``observation.images.<camera>``: ``(height, width, 3)`` uint8 RGB,
                upright. ``next.success``, ``next.terminated``, ``next.truncated``, ``next.done``: True or False,
                after the action. Any other name: numbers or flags of any shape, kept with their type, or a text.
                Nothing may be NaN or infinite but what is called ``info.<name>``.
            image: before the action, ``(height, width, 3)`` uint8 RGB; ``observation.images.primary``.
            action: ``(7,)`` numbers, kept as float32: translation (m), rotation (rad), gripper (+1 open, -1
                closed).
            success: after the action, True or False; ``next.success``.
            reward: after the action, a finite number; ``next.reward``.
            state: of the robot before the action, ``(D,)`` finite numbers, kept as float32;
                ``observation.state``.
            info: what else the environment says after the action, by name: a number or flag each;
                ``info.<name>``. In ``elapsed_steps``, which must grow, the infos of another step or episode are
                noticed.

        Raises:
            RecordError: a value has the wrong type, shape or size, is not finite, or is missing; nothing is added.
        """
        keywords = {
            "image": image,
            "action": action,
            "success": success,
            "reward": reward,
            "state": state,
            "info": info,
        }
        self._keep(self._ready(features, keywords))

    def end(
        self,
        features: Mapping[str, Any] | None = None,
        /,
        *,
        image: Any = None,
        state: Any = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the episode, and return its file.

        Args:
            features: what was seen after the last action, by name: observations that the steps have, all or some.
            image: after the last action. Vectorised environments that reset by themselves return the next
                episode's first image in its place, and this one in the info (Gym: ``final_observation``); see
                `vla_data.VectorRecorder`.
            state: after the last action, if the steps have states.
            facts: of the whole episode that are known only now; they are added to those that it began with.

        Raises:
            RecordError: there are no steps, an observation is not like the others, or the episode has ended.
            MachineError: E701 to E703, the disk is full or failed. Unless the file is among the writer's
                ``written``, the episode is still open, and ``end`` may be called again.
        """
        self._check_open()
        if not self._steps:
            raise RecordError("E207", "the episode has no steps: add them before the end, or discard it")
        return self._end(self._last(self._columns, features, image, state), facts)

    def discard(self) -> None:
        """Forget the episode on purpose: it is not written, and not counted as lost."""
        self._check_open()
        self._forget()

    def _ready(self, features: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> Ready:
        """A step as it would be kept; the episode is as it was."""
        self._check_open()
        where = f"step {len(self)}"
        encoding = self._writer.images
        given = given_by_keyword(where, encoding, **keywords, needed=features is None)
        for name, value in self._named(where, features).items():
            if name in given:
                raise RecordError("E004", f"{where}: {name} is given twice, by name and by keyword")
            given[name] = Given(name, value, partial(column_for, name, value, encoding))
        self._check_all(where, given)
        columns = self._columns or self._new_columns(where, given)
        rows = {name: columns[name].ready(where, item.value) for name, item in given.items()}
        if COUNTER in rows:
            self._check_counter(where, rows[COUNTER])
        size = self._bytes + sum(columns[name].size(row) for name, row in rows.items())
        if size > MAX_BYTES:
            raise RecordError("E107", f"{where}: the episode takes {MAX_BYTES / 1e9:.1f} GB; end it before this")
        if not self._columns:  # new ones, which are nobody's yet; from now on they know what is like this row
            _keep(columns, rows)
        return Ready(columns, rows, size, features is not None)

    def _keep(self, ready: Ready) -> None:
        if self._columns:
            _keep(self._columns, ready.rows)
        self._is_named |= ready.is_named
        self._columns, self._bytes, self._steps = ready.columns, ready.size, self._steps + 1
        self._writer._count(self._number, self.task, self._steps)

    def _end(self, last: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> Path:
        more = as_facts(facts)
        if again := sorted(self._facts.keys() & more.keys()):
            raise RecordError("E004", f"the end: the episode began with the facts {', '.join(again)}")
        known = {**self._facts, **more}
        writer, columns = self._writer, self._columns
        if self._is_named or known or writer.features or writer.robot:
            described = {name: column.feature() for name, column in columns.items()}
            schema = Schema(features=described, fps=writer.fps, robot=writer.robot)
            members = recorded_members(columns, last, task=self.task, facts=known, schema=schema)
        else:
            members = plain_members(columns, last, task=self.task, fps=writer.fps)
        path = writer._publish(members)
        self._forget()
        writer._settle()
        return path

    def _check_open(self) -> None:
        self._writer._check_process()
        if self._done:
            raise RecordError("E001", "the episode has ended; the writer's episode() begins a new one")
        if self._writer._closed:
            raise RecordError(
                "E001", "the writer was closed before this episode ended, so the episode is lost; end it first"
            )

    def _forget(self) -> None:
        self._done = True
        self._writer._forget(self._number)
        self._columns = {}

    def _named(self, where: str, features: Mapping[str, Any] | None) -> Mapping[str, Any]:
        if features is None:
            return {}
        if not isinstance(features, Mapping):
            raise RecordError("E203", f"{where}: features are a {type(features).__name__}, not a dictionary")
        for name in features:
            try:
                check_name(name)
            except DataError as error:
                raise RecordError(error.code, f"{where}: {error.message}") from None
            if name in LEROBOT_OWN:
                raise RecordError("E203", f"{where}: LeRobot writes its own {name}; give the feature another name")
        if len(features) > MAX_FEATURES:
            raise RecordError("E107", f"{where}: there are {len(features):,} features, more than {MAX_FEATURES}")
        return features

    def _new_columns(self, where: str, given: Mapping[str, Given]) -> dict[str, Column]:
        declared = self._writer.features
        if missing := sorted(declared.keys() - given.keys()):
            raise RecordError("E206", f"{where}: {', '.join(missing)} is declared in features, but not given")
        if not given:
            raise RecordError("E206", f"{where}: there are no features; give at least an action")
        return {
            name: declared_column(name, declared[name], self._writer.images) if name in declared else item.column()
            for name, item in given.items()
        }

    def _check_all(self, where: str, given: Mapping[str, Given]) -> None:
        """That a step has the features of the steps before."""
        if not self._columns:
            return
        missing = sorted(column.label for name, column in self._columns.items() if name not in given)
        new = sorted(item.label for name, item in given.items() if name not in self._columns)
        for names, what in ((missing, "missing"), (new, "not in the steps before")):
            if names:
                raise RecordError("E206", f"{where}: {', '.join(names)} {what}; give each in all steps or none")

    def _check_counter(self, where: str, now: Any) -> None:
        rows = self._columns[COUNTER].rows if self._columns else []
        before = rows[-1] if rows else 0
        if now <= before:
            raise RecordError(
                "E204",
                f"{where}: info['elapsed_steps'] is {now} after {before}; give the info of after the action "
                "(with automatic resets, that of final_info)",
            )

    def _last(
        self,
        columns: Mapping[str, Column],
        features: Mapping[str, Any] | None,
        image: Any = None,
        state: Any = None,
    ) -> dict[str, Any]:
        """Feature -> its row of after the last action."""
        where = "the end"
        given = dict(self._named(where, features))
        for name, label, value in ((CAMERA, "image", image), (STATE, "state", state)):
            if value is None:
                continue
            if name in given:
                raise RecordError("E004", f"{where}: {name} is given twice, by name and by keyword")
            if name not in columns:
                raise RecordError("E206", f"{where}: there is a {label}, but the steps have none")
            given[name] = value
        for name in given:
            if not name.startswith("observation.") or name not in columns:
                what = "the steps have none" if name.startswith("observation.") else "only observations are"
                raise RecordError("E206", f"{where}: {name} is not seen after the last action; {what}")
        return {name: columns[name].ready(where, value) for name, value in given.items()}


def _keep(columns: Mapping[str, Column], rows: Mapping[str, Any]) -> None:
    for name, row in rows.items():
        columns[name].keep(row)
