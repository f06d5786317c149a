"""The fields of one rollout, from whatever form a collector gave them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.actions.limits import check_numbers
from vla_data.core.instructions import NAMES
from vla_data.errors import DataError
from vla_data.safety import text

_INFO_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")  # other keys are of no use to anyone here


_SHOWN: Final = 8


def read_action(value: Any, limit: float, notes: list[str], size: int = 7) -> NDArray[np.float32]:
    """The actions as ``(T, size)`` float32.

    Raises:
        DataError: E203 for another shape, E207 for none at all, E201 or E202 for a value that is no number or
            beyond ``limit``, E208 for no number at all or an integer that float32 can't hold.
    """
    try:
        # Object arrays and ragged lists end here too; no element is converted that is not a number.
        raw = np.asarray([np.asarray(row) for row in value] if isinstance(value, list | tuple) else value)
        if raw.dtype == object:
            raw = np.asarray([np.asarray(row) for row in raw])
    except (ValueError, TypeError):
        raise DataError("E203", "action is not a table of numbers with rows of one length") from None
    if raw.shape[:1] == (0,):
        raise DataError("E207", "the episode has no steps")
    if raw.ndim != 2 or raw.shape[1] != size:
        way = (
            f"--action-size {raw.shape[1]} reads them, and --declare says what they are; " if raw.ndim == 2 else ""
        )
        raise _with_frames(
            DataError(
                "E203",
                f"action has shape {raw.shape}, not (T, {size}); {way}vla_data.RolloutWriter records any actions",
            ),
            raw,
        )
    if raw.dtype.kind not in "iuf":
        raise _with_frames(DataError("E208", f"action has dtype {raw.dtype}, not a type of numbers"), raw)
    try:
        check_numbers("action", raw, limit)
    except DataError as error:
        raise _with_frames(error, raw) from None
    action = raw.astype(np.float32)
    if raw.dtype != np.float32:
        exact = bool((action.astype(np.float64) == raw.astype(np.float64)).all())
        if not exact and raw.dtype.kind != "f":
            raise _with_frames(DataError("E208", f"action of dtype {raw.dtype} does not fit float32"), raw)
        notes.append(f"action_{raw.dtype.name}_to_float32" + ("" if exact else "_rounded"))
    return action


def _with_frames(error: DataError, raw: NDArray[Any]) -> DataError:
    error.frames = len(raw) if raw.ndim else None
    return error


def read_info(value: Any, steps: int) -> dict[str, NDArray[Any]]:
    """What the environment said, key by key: ``success`` as booleans, and every other key that has one number
    in each step, all of shape ``(T,)``.

    Raises:
        DataError: E204 for another number of infos than steps, E206 and E205 for a missing or odd ``success``.
    """
    if isinstance(value, dict):  # one dictionary of arrays over time
        if "success" in value and not _is_column(value["success"]):
            raise DataError("E204", f"there is one info for {steps} actions")
        lengths = {len(column) for column in value.values() if _is_column(column)}
        if lengths != {steps}:
            listed = ", ".join(map(str, sorted(lengths))) or "no"
            raise DataError("E204", f"the lists in info have {listed} steps, and there are {steps} actions")
        value = [{key: _row(column, t) for key, column in value.items()} for t in range(steps)]
    if not isinstance(value, list | tuple | np.ndarray) or (isinstance(value, np.ndarray) and value.ndim != 1):
        raise DataError("E206", f"info is a {type(value).__name__}, not a list of dictionaries")
    infos = list(value)
    if len(infos) != steps:
        raise DataError("E204", f"{len(infos)} infos for {steps} actions")
    for t, info in enumerate(infos):
        if not isinstance(info, dict) or "success" not in info:
            has = ", ".join(text.show(key) for key in list(info)[:_SHOWN]) if isinstance(info, dict) else ""
            what = f"info[{t}] has {has or 'nothing'}" if isinstance(info, dict) else f"info[{t}] is no dictionary"
            raise DataError("E206", f"missing key info[{t}].success; {what}")
    columns: dict[str, NDArray[Any]] = {
        "success": np.asarray([_read_flag(info["success"], t) for t, info in enumerate(infos)], dtype=np.bool_)
    }
    for key in infos[0]:
        if (
            isinstance(key, str)
            and key != "success"
            and _INFO_KEY.fullmatch(key)
            and all(key in info for info in infos)
        ):
            column = [_single(info[key]) for info in infos]
            if all(isinstance(item, bool | int | float | np.bool_ | np.number) for item in column):
                array = np.asarray(column)
                if array.dtype.kind in "biuf" and array.shape == (steps,):
                    columns[key] = array
    return columns


def next_fields(info: Mapping[str, NDArray[Any]], timing: str) -> dict[str, NDArray[Any]]:
    """What came of each action, from the columns of `read_info`, under the names that all formats here use.

    - ``next.reward``: ``reward``, as float32
    - ``next.terminated``, ``next.truncated``: the task's own end, and a limit's, where every value is a truth
      value (or 0 and 1)
    - ``next.done``: ``done`` by the same rule; else whether any of the two above holds, if there is one

    Only for infos recorded after the action: of those from before it, the last step's would be missing.

    Raises:
        DataError: E201 for a reward that is not finite, also as float32.
    """
    if timing != "after":
        return {}
    fields: dict[str, NDArray[Any]] = {}
    if "reward" in info:
        with np.errstate(over="ignore"):
            reward = info["reward"].astype(np.float32)
        if not np.isfinite(reward).all():
            t = int(np.argmax(~np.isfinite(reward)))
            raise DataError("E201", f"info[{t}].reward is {info['reward'][t]}, not a finite number")
        fields["next.reward"] = reward
    for key in ("terminated", "truncated", "done"):
        if key in info and np.isin(info[key], (0, 1)).all():
            fields[f"next.{key}"] = info[key].astype(np.bool_)
    ends = [fields[name] for name in ("next.terminated", "next.truncated") if name in fields]
    if ends and "next.done" not in fields:
        fields["next.done"] = np.logical_or.reduce(ends)
    return fields


def _is_column(column: Any) -> bool:
    return isinstance(column, list) or (isinstance(column, np.ndarray) and column.ndim > 0)


def is_true(value: Any) -> bool:
    """A flag of a whole rollout."""
    value = _single(value)
    if not isinstance(value, bool | np.bool_):
        raise DataError("E203", "is_image_encode is not True or False")
    return bool(value)


def _row(column: Any, t: int) -> Any:
    return column[t] if _is_column(column) else column


def _single(value: Any) -> Any:
    """The one item of a 0-d or (1,) array; anything else as it is."""
    return value.reshape(())[()] if isinstance(value, np.ndarray) and value.shape in ((), (1,)) else value


def _read_flag(value: Any, t: int) -> bool:
    flag = _single(value)
    if isinstance(flag, bool | np.bool_) or (isinstance(flag, int | float | np.number) and flag in (0, 1)):
        return bool(flag)
    what = f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)[:40]
    raise DataError("E205", f"info[{t}].success is {text.show(what)}, not True or False")


def read_fps(value: Any) -> float | None:
    """Steps per second, where a rollout says so."""
    value = _single(value)
    if value is None:
        return None
    good = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not good or not np.isfinite(value) or not 1e-3 <= value <= 1e6:
        raise DataError("E203", "fps is not a number above 0")
    return float(value)


def read_instruction(rollout: Mapping[str, Any], steps: int) -> tuple[list[str], str]:
    """The instruction of every step, and the key that it stands under; empty texts where there is none.

    It is ``instruction``, or else the first key of `NAMES` that holds a text, or ``task`` where that is one.

    Args:
        rollout: key -> value.
        steps: of it.

    Raises:
        DataError: E212 for what is neither a text, nor a list of one or of one for each step.
    """
    key = next((key for key in ("instruction", *NAMES, "task") if _has_text(rollout.get(key))), "instruction")
    value = rollout.get(key)
    listed: list[Any] = []
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1):
        listed = list(value)
    if len(listed) == steps and steps > 1:
        return [read_text(item) for item in listed], key
    return [read_text(value)] * steps, key


def _has_text(value: Any) -> bool:
    """Whether a value is a text, or a list that begins with one."""
    if isinstance(value, np.ndarray | list | tuple):
        items = value.reshape(-1) if isinstance(value, np.ndarray) else value
        value = items[0] if len(items) else None
    return isinstance(value, str | bytes) and bool(value.strip())


def read_text(value: Any) -> str:
    """The instruction as text; empty for None."""
    if isinstance(value, np.ndarray | list | tuple):
        items = value.reshape(-1).tolist() if isinstance(value, np.ndarray) else list(value)
        if len(items) != 1:
            raise DataError("E212", f"the instruction is a list of {len(items)} texts, not one text")
        value = items[0]
    if isinstance(value, bytes | memoryview):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            raise DataError("E212", "the instruction is not UTF-8") from None
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError("E212", f"the instruction is a {type(value).__name__}, not a text")
    return str(value)


def read_state(value: Any, steps: int) -> NDArray[np.float32]:
    """The robot's state before each action, and after the last where that is there, ``(T or T+1, D)`` float32."""
    try:
        state = np.asarray(value, dtype=np.float32)
    except (ValueError, TypeError):
        raise DataError("E203", "state is not an array of numbers") from None
    if state.ndim != 2 or len(state) not in (steps, steps + 1):
        raise DataError("E204", f"state has shape {state.shape} for {steps} actions")
    if not np.isfinite(state).all():
        t, d = np.argwhere(~np.isfinite(state))[0]
        raise DataError("E201", f"state[{t}][{d}] is {state[t, d]}, not a finite number")
    return state
