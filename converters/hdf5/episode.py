"""From a demonstration as its file has it to an episode: one timeline, upright RGB images, checked values.

**Alignment.** An episode's step ``t`` holds what was seen before action ``t``. With observations of "before",
observation ``j`` goes with action ``j``. With "after", observation ``j`` is what action ``j + 1`` was chosen on:
the first action goes, since what was seen before it is in no file, and the last observation is the end of the
episode. All else goes with its action. ``source_length`` counts such pairs.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.hdf5.absolute import NOTE as POSES
from converters.hdf5.absolute import are_poses
from converters.hdf5.conventions import action_convention
from converters.hdf5.declared import Options, told
from converters.hdf5.dialects.base import BY_STATES, FIRST_OF, Demo, Layout, is_images
from converters.hdf5.dialects.channels import looks_like_pictures
from converters.hdf5.dialects.odd import Odd, below, beside, gather, refuse
from converters.hdf5.instruction import each_step
from converters.hdf5.pictures import Pictures
from vla_data.actions.limits import check_numbers
from vla_data.core import Episode, EpisodeMeta, Json
from vla_data.errors import DataError
from vla_data.safety.hdf5 import Table
from vla_data.safety.text import instruction as checked
from vla_data.safety.text import show

MAX_ARRAYS: Final = 1 << 30
FLAGS: Final = ("next.success", "next.fail", "next.done", "next.terminated", "next.truncated")

Array = NDArray[Any]


def build(
    demo: Demo, layout: Layout, options: Options, *, name: str, file: str, meta: Mapping[str, Json]
) -> Episode:
    """The episode of a demonstration.

    Args:
        demo: what the file has.
        layout: of the file.
        options: what was declared.
        name: the episode's id.
        file: name of the file.
        meta: facts to add.

    Raises:
        DataError: E231 where a convention is neither declared nor told by a rule; E201 to E207, E211 and E212 for
            content that can't be used. It says all that is missing, and names all parts that can't be read.
    """
    notes, odd = list(demo.notes), list(demo.odd)
    demo = _without_empty(_with_next(demo, notes, wanted=options.next_obs), notes)
    with beside(odd):
        action = _actions(demo, options.action_limit, odd)
    count = demo.count
    with _of(count):
        with beside(odd):
            pictures = Pictures(demo)
            known = told(demo, options, file, odd, pixels=bool(pictures.pixels), files=bool(pictures.files))
            notes += [f"undeclared:{flag}" for flag in known.unsaid]
            if demo.time is not None and demo.time.rule == BY_STATES and known.time.value != demo.time.value:
                notes.append(f"declared_against_the_data:observation_time_{demo.time.value}")
            if known.task.rule == "declared" and demo.languages:
                notes.append(f"declared_instead_of_the_instruction_of:{next(iter(demo.languages))}")
            if FIRST_OF in known.task.rule:
                notes.append(
                    "instruction_first_of:" + known.task.rule.removeprefix("declared:").replace(FIRST_OF, "=")
                )
            first = int(known.time.value == "after")
            steps = count - first
            if steps == 0:
                raise DataError("E207", "there is only one action, and what was seen before it is not in the file")
            demo = _check_rows(demo, count, first, odd)
            pictures = Pictures(demo) if odd else pictures
            if first:
                notes.append("first_action_dropped")
            frames, final = pictures.frames(known, steps, odd)
            changing = each_step(demo, options)
            if changing is not None:
                path, texts = changing
                demo = replace(demo, extra={k: t for k, t in demo.extra.items() if below(t.path) != path})
                for task in set(texts):
                    checked(task, lines=True)
            arrays = {key: _widened(values[first:], key, notes) for key, values in action.items()}
            of_action = {**demo.results, **demo.before, **_extra(demo, count, {*demo.seen, *action}, notes)}
            for key, table in of_action.items():
                with gather(odd, table.path):
                    arrays[key] = _widened(_values(table, key, first, first + steps), key, notes)
            for key, table in demo.seen.items():
                if key not in pictures.cameras:
                    with gather(odd, table.path):
                        values = _seen(pictures, table, key, steps, notes)
                        arrays[key] = pictures.upright(values, known, frames)
        refuse(odd)
        numbers = {key: table for key, table in demo.seen.items() if key not in frames}
        notes += [
            f"pictures_kept_as_numbers:{key}" for key, table in numbers.items() if looks_like_pictures(table)
        ]
        if any(len(table) > steps for table in numbers.values()):
            notes.append("last_values_have_no_step")
        if changing is not None:
            arrays["task"] = np.asarray(changing[1][first : first + steps])
        state = [arrays[key] for key in layout.state if key in arrays]
        if state and "observation.state" not in arrays and len(state) == len(layout.state):
            arrays["observation.state"] = np.concatenate([a.reshape(steps, -1) for a in state], axis=1)
        notes += _odd_values(arrays)
    facts: dict[str, Json] = {
        "layout": layout.name,
        "fps": known.fps or None,
        "observation_time": known.time.value if known.time.rule else None,
        "observation_time_rule": known.time.rule or None,
        "language_rule": known.task.rule,
        "robot": demo.robot,
        **pictures.meta(known),
        **demo.facts,
    }
    facts = {name: fact for name, fact in facts.items() if fact is not None}
    about = EpisodeMeta({**facts, **meta}, source="hdf5", source_length=steps)
    if are_poses(arrays) and action_convention(about, arrays["action"].shape[1]).get("kind") == "delta":
        notes.append(f"{POSES}:action")
    return Episode(
        id=name,
        arrays=arrays,
        frames=frames,
        final=final,
        task=known.task.value if changing is None else str(arrays["task"][0]),
        index=np.arange(steps),
        meta=about,
        notes=tuple(notes),
    )


@contextlib.contextmanager
def _of(count: int) -> Iterator[None]:
    """An error is of an episode of so many steps."""
    try:
        yield
    except DataError as error:
        error.frames = count
        raise


def _with_next(demo: Demo, notes: list[str], *, wanted: bool) -> Demo:
    """Observations after each action, as far as they are numbers and asked for; a note says what became of them.

    Whether a demo has such features depends on the option and not on its numbers: all demos are of one kind.
    """
    if not demo.next_obs:
        return demo
    numbers = {key: table for key, table in demo.next_obs.items() if not is_images(table)}
    if wanted:
        notes.append("next_obs_kept_without_images")
        return replace(demo, results={**demo.results, **numbers})
    if "next_obs_is_not_obs_one_step_later" in notes:
        notes.append("next_obs_left_out")
    return demo


def _without_empty(demo: Demo, notes: list[str]) -> Demo:
    """Without tables whose rows hold no number at all, for which no format has a feature."""

    def full(tables: Mapping[str, Table]) -> dict[str, Table]:
        empty = {key for key, table in tables.items() if 0 in table.shape[1:] and not is_images(table)}
        notes.extend(f"left_out_as_empty:{key}" for key in sorted(empty))
        return {key: table for key, table in tables.items() if key not in empty}

    return replace(
        demo,
        results=full(demo.results),
        before=full(demo.before),
        seen=full(demo.seen),
        extra=full(demo.extra),
    )


def _check_rows(demo: Demo, actions: int, first: int, odd: list[Odd]) -> Demo:
    """The demo without tables of other numbers of rows than its actions allow, which go into ``odd``; the others'
    numbers fit in memory together.
    """
    bad: dict[str, str] = {}
    for tables, more in ((demo.results, 0), (demo.before, 1), (demo.seen, 1 - first)):
        for table in tables.values():
            if not table.shape or not actions <= len(table) <= actions + more:
                rows = f"{len(table):,}" if table.shape else "no"
                bad[table.path] = f"{show(table.path)} has {rows} rows for {actions:,} actions"
    sound = [table for table in demo.seen.values() if table.path not in bad]
    lengths = Counter(map(len, sound))
    most = max(lengths, key=lambda rows: (lengths[rows], rows), default=0)
    for table in sound:
        if len(table) != most:
            bad[table.path] = f"{show(table.path)} has {len(table):,} rows, other observations {most:,}"
    odd += [("E204", message, path) for path, message in bad.items()]

    def good(tables: Mapping[str, Table]) -> dict[str, Table]:
        return {key: table for key, table in tables.items() if table.path not in bad}

    demo = replace(demo, results=good(demo.results), before=good(demo.before), seen=good(demo.seen))
    arrays = [*demo.actions.values(), *demo.results.values(), *demo.before.values(), *demo.extra.values()]
    arrays += [table for key, table in demo.seen.items() if key not in demo.encoded and not is_images(table)]
    total = sum(table.nbytes for table in arrays)
    if total > MAX_ARRAYS:
        raise DataError("E107", f"the episode has {total:,} bytes of numbers, more than {MAX_ARRAYS:,}")
    return demo


def _extra(demo: Demo, actions: int, taken: set[str], notes: list[str]) -> dict[str, Table]:
    """What the layout does not know: one row an action is kept as of the action; anything else is left out."""
    out = {}
    for key, table in demo.extra.items():
        fits = table.shape and len(table) == actions and table.kind != "bytes"
        if fits and key not in taken and key not in demo.results and key not in demo.before:
            out[key] = table
            notes.append(f"taken_as_of_the_action:{key}")
        else:
            notes.append(f"left_out_as_unknown:{key}")
    return out


def _actions(demo: Demo, limit: float, odd: list[Odd]) -> dict[str, Array]:
    """The actions as recorded: ``action``, ``(N, D)``, or its parts, ``(N, ...)``. ``odd`` takes E203 and E208 for
    what is no table of numbers, E201 and E202 for values that no robot can mean.

    Raises:
        DataError: E207 where there are none.
    """
    out: dict[str, Array] = {}
    for key, table in demo.actions.items():
        rank = 2 if key == "action" else max(1, len(table.shape))
        with gather(odd, table.path if key != "action" else ""):  # without which there is no episode
            if len(table.shape) != rank or 0 in table.shape[1:]:
                raise DataError("E203", f"{show(table.path)} has the shape {table.shape}, not (T, D)")
            if len(table):
                out[key] = _action(table, key, limit)
    if not demo.count:
        raise DataError("E207", "the episode has no steps")
    return out


def _action(table: Table, key: str, limit: float) -> Array:
    if table.kind != "number" or table.dtype.kind not in ("iuf" if key == "action" else "biuf"):
        raise DataError("E208", f"{show(table.path)} has dtype {table.dtype}, not a type of numbers")
    if table.nbytes > MAX_ARRAYS:
        raise DataError("E107", f"{show(table.path)} has {table.nbytes:,} bytes")
    values = table.read()
    if values.dtype.kind != "b":
        check_numbers(table.path, values, limit)
    return values


def _values(table: Table, key: str, start: int, stop: int) -> Array:
    if table.kind == "text":
        texts = table.texts(start, stop)
        size = 4 * len(texts) * max(map(len, texts), default=0)  # NumPy gives each row the room of the longest
        if size > MAX_ARRAYS:
            raise DataError("E107", f"{show(table.path)} would take {size:,} bytes")
        return np.asarray(texts, dtype=np.str_)
    values = table.read(start, stop)
    if key not in FLAGS:
        return values
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or not np.isin(values, (0, 1)).all():
        raise DataError("E205", f"{show(table.path)} has values other than true and false")
    return values.astype(np.bool_)


def _seen(pictures: Pictures, table: Table, key: str, steps: int, notes: list[str]) -> Array:
    """An observation that is no camera."""
    if table.kind == "bytes" and key not in pictures.flat:
        raise DataError("E232", f"{show(table.path)} has rows of unequal length")
    if key in pictures.flat:
        return pictures.decoded(key)[:steps]
    return _widened(_values(table, key, 0, steps), key, notes)


def _widened(array: Array, key: str, notes: list[str]) -> Array:
    """float16 as float32, which holds each of its values and which trainers' formats have."""
    if array.dtype != np.float16:
        return array
    notes.append(f"float16_as_float32:{key}")
    return array.astype(np.float32)


def _odd_values(arrays: Mapping[str, Array]) -> list[str]:
    """Notes on observations that are not finite, which sensors may well say."""
    return [f"not_finite:{k}" for k, a in arrays.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]
