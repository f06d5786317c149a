"""What every layout of HDF5 files says about one of its demonstrations, and helpers to say it.

A layout is one file of this folder with one class: it knows the names of its format and which rules tell its
conventions, and hands over tables that nobody has read yet. `converters.hdf5.episode` does the rest, the same for
all: alignment, orientation, checks.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Protocol

import numpy as np

from converters.hdf5.dialects.channels import ChannelsLast
from converters.hdf5.dialects.odd import Odd, refuse
from vla_data.core import Json
from vla_data.core.instructions import NAMES
from vla_data.errors import DataError
from vla_data.names import natural
from vla_data.safety import strict_json
from vla_data.safety.hdf5 import Group, Table, decode
from vla_data.safety.text import show

MAX_TABLES: Final = 4_096
MAX_DEPTH: Final = 16
LONG_TEXT: Final = 8_192
MANY_NUMBERS: Final = 1_024
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}")
BY_STATES: Final = "joints_in_states"
_SMALLEST_FILE: Final = 45  # bytes of a PNG without pixels
# ``KITCHEN_SCENE10_close_the_top_drawer_of_the_cabinet``
_SCENE: Final = re.compile(r"(?:([A-Z][A-Z_]*_SCENE[0-9]+)_)?(.*)")


class Found(NamedTuple):
    """A convention, and the rule that told it."""

    value: str
    rule: str


@dataclass(frozen=True, kw_only=True)
class Demo:
    """One demonstration as its file has it. ``N`` is the number of its actions.

    Attributes:
        actions: ``action``, ``(N, D)``; or ``action.<part>``, ``(N, ...)`` each, where a file has them in parts.
        results: feature name (``next.*``) -> table of ``N`` rows, what came of each action.
        before: feature name -> table of ``N`` or ``N+1`` rows that were taken before each action, whatever the
            observations are.
        seen: feature name -> observations, ``N`` or ``N+1`` rows.
        following: feature name -> observations that were taken after each action, where both are recorded.
        next_obs: feature name -> such observations as features, which somebody may ask for.
        extra: everything else, which is kept as of the action where it has one row an action.
        encoded: the names in ``seen`` whose rows are PNG or JPEG files.
        time: whether observation ``j`` is of "before" or "after" action ``j``.
        doubts: option -> why its fact is not told, as where pieces of evidence contradict one another.
        orientation: what makes the images upright: "none", "vflip" or "rot180".
        channels: order of the channels of stored pixels, "rgb" or "bgr"; files say nothing of what they were made
            of.
        file_channels: the same of image files, where whoever wrote them said it.
        languages: rule -> instruction, the preferred one first.
        fps: control rate, if the file says it.
        robot: its type, if the file says it.
        facts: for `vla_data.Episode.meta`.
        notes: for `vla_data.Episode.notes`.
        odd: parts that can't be read, and are in no table.
    """

    actions: Mapping[str, Table]
    results: Mapping[str, Table]
    before: Mapping[str, Table]
    seen: Mapping[str, Table]
    following: Mapping[str, Table] = field(default_factory=dict)
    next_obs: Mapping[str, Table] = field(default_factory=dict)
    extra: Mapping[str, Table] = field(default_factory=dict)
    encoded: frozenset[str] = frozenset()
    time: Found | None = None
    doubts: Mapping[str, str] = field(default_factory=dict)
    orientation: Found | None = None
    channels: Found | None = None
    file_channels: Found | None = None
    languages: Mapping[str, str] = field(default_factory=dict)
    fps: float | None = None
    robot: str | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    odd: tuple[Odd, ...] = ()

    @property
    def count(self) -> int:
        """``N``."""
        return len(next(iter(self.actions.values())))


class Layout(Protocol):
    """What one kind of HDF5 file looks like.

    Attributes:
        name: of the layout.
        state: features (``observation.<key>``) that make up ``observation.state`` one after the other, where there
            is none.
    """

    name: ClassVar[str]
    state: ClassVar[tuple[str, ...]]

    def fits(self, top: Group) -> bool:
        """Whether a file is of this kind, by its groups and datasets."""
        ...

    def demos(self, top: Group) -> list[str]:
        """Names of all demonstrations; ``[""]`` where the file is one."""
        ...

    def read(self, top: Group, name: str, path: Path, root: Path) -> Demo:
        """One demonstration; ``path`` and ``root`` lead to files beside it."""
        ...


def collect(
    group: Group, skip: Sequence[str] = (), *, odd: list[Odd] | None = None, extra: bool = False
) -> tuple[dict[str, Table], list[str]]:
    """Every dataset below a group, by its path joined with dots, in natural order; and notes.

    A group that several links lead to is read once, so a cycle ends; a dataset is read for each of its names.

    Args:
        group: where they lie.
        skip: names in it that are not looked at.
        odd: takes what can't be read, by E232 or what `Group` raises; None: it is raised.
        extra: leave out what no feature can be, by its type or name, with a note: nobody asked for it.

    Raises:
        DataError: E106 for more than 4,096 datasets or 16 levels.
    """
    out: dict[str, Table] = {}
    notes: list[str] = []
    mine: list[Odd] = [] if odd is None else odd
    visited = {group.key}
    names: dict[tuple[int, int], str] = {}
    # A stack and no recursive function inside: its cycle of references would keep the file open.
    todo: list[tuple[str, Group]] = [("", group)]
    while todo:
        prefix, here = todo.pop()
        if prefix.count("/") >= MAX_DEPTH:
            raise DataError("E106", f"{show(here.path)} is more than {MAX_DEPTH} groups deep")
        for name in here.names():
            if not prefix and name in skip:
                continue
            key = (prefix + name).replace("/", ".")
            try:
                item = here[name]
            except DataError as error:
                if not (extra and error.code in ("E203", "E232")):
                    mine.append((error.code, error.message, f"{here.path}/{name}"))
                    continue
                notes.append(f"left_out_as_no_feature:{show(key)}")
                continue
            if not _NAME.fullmatch(key) or key in out:
                if not extra:
                    mine.append(("E232", f"{show(item.path)} can't be the name of a feature", item.path))
                    continue
                notes.append(f"left_out_as_no_name_of_a_feature:{show(key)}")
                continue
            if isinstance(item, Table):
                if not extra and ChannelsLast.fits(item):
                    item = ChannelsLast(item)
                    notes.append(f"channels_first:{key}")
                out[key] = item
                first = names.setdefault(item.key, key)
                if first != key:
                    notes.append(f"same_data:{key}={first}")
            elif item.key in visited:
                notes.append(f"left_out_as_repeated:{key}")
            else:
                visited.add(item.key)
                todo.append((f"{prefix}{name}/", item))
            if len(out) + len(visited) > MAX_TABLES:
                raise DataError("E106", f"{show(group.path)} has more than {MAX_TABLES:,} datasets")
    if odd is None:
        refuse(mine)
    return dict(sorted(out.items(), key=lambda entry: natural(entry[0]))), sorted(notes, key=natural)


def is_images(table: Table) -> bool:
    """Whether a table is ``(N, height, width, 3)`` uint8."""
    return table.kind == "number" and table.dtype == np.uint8 and len(table.shape) == 4 and table.shape[3] == 3


def observation(key: str, table: Table) -> str:
    """The feature name of an observation: ``observation.images.<key>`` or ``observation.<key>``."""
    return f"observation.images.{key}" if is_images(table) or file_of(table) == RGB else f"observation.{key}"


RGB: Final = (8, 3)
"""Bits and channels of an image file that is a camera's picture."""


def file_of(table: Table) -> tuple[int, int] | None:
    """(bits, channels) of the image file that the first row of a table is; None where it is none.

    Rows are JPEG or PNG files as ``|S<n>``, of unequal length, or as ``(N, n)`` uint8 padded with zeros. Gray and
    palettes of at most 8 bits, and whatever JPEG has, count as RGB, which holds them.
    """
    numbers = table.kind == "number"
    if len(table) == 0 or len(table.shape) != (2 if numbers else 1):
        return None
    if numbers and (table.dtype != np.uint8 or table.shape[1] < _SMALLEST_FILE):
        return None
    row = table.read(0, 1)[0]
    data = row if isinstance(row, bytes) else np.asarray(row).tobytes() if isinstance(row, np.ndarray) else b""
    if data[:3] == b"\xff\xd8\xff":
        return RGB
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < _SMALLEST_FILE:
        return None
    channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(data[25], 0)
    return RGB if data[24] <= 8 and data[25] in (0, 3) else (data[24], channels)


def required(group: Group, name: str) -> Table:
    """A dataset that must be there; E206 otherwise."""
    return group.table(name)


def lag_of(joints: Table, states: Table, first: int = 1) -> int | None:
    """By how many rows robosuite's flattened states are later than observations of the same moment: -1, 0 or 1.

    A state begins with time and the arm's seven joints. The joints of observation ``j`` are those of
    ``states[j + lag]``. That lag must fit ten times better than each of the others, over all rows that have such a
    neighbour; None where none does, as of an arm that stands still. The first state is not looked at: files that
    OpenVLA's script replayed have the one of before the arm had settled there.
    """
    if joints.kind != "number" or states.kind != "number" or len(joints) != len(states) or len(joints) < 3:
        return None
    if len(states.shape) != 2 or joints.shape[1:] != (7,) or states.shape[1] < 8:
        return None
    if max(joints.nbytes, states.nbytes) > 256 << 20:
        return None
    angles, arm = joints.read().astype(np.float64), states.read()[:, 1:8].astype(np.float64)
    last = len(angles) - 1
    gaps = {}
    for lag in (-1, 0, 1):
        rows = slice(first + (lag < 0), last)
        if rows.stop > rows.start:
            gaps[lag] = float(np.abs(angles[rows] - arm[rows.start + lag : rows.stop + lag]).mean())
    best = min(gaps, key=lambda lag: gaps[lag])
    others = [gap for lag, gap in gaps.items() if lag != best]
    told = all(map(math.isfinite, gaps.values())) and all(gaps[best] <= 0.1 * gap > 0 for gap in others)
    return best if told else None


def time_by_states(joints: Table, states: Table) -> Found | None:
    """Whether observations are of before or after the actions, where states are of before them: see `lag_of`."""
    lag = lag_of(joints, states)
    return Found("after" if lag else "before", BY_STATES) if lag in (0, 1) else None


def text_of(attributes: Mapping[str, Any], name: str) -> str | None:
    """An attribute that is a text, or None."""
    value = attributes.get(name)
    return decode(value, f"attribute {show(name)}") if isinstance(value, str | bytes) else None


INSTRUCTIONS: Final = NAMES


def one_text(value: Any) -> str | None:
    """The text that a value is, or that an array or a list (of JSON too) holds, once or often; else None."""
    if isinstance(value, np.ndarray | list | tuple):
        items = {
            one_text(item) for item in (value.reshape(-1).tolist() if isinstance(value, np.ndarray) else value)
        }
        return items.pop() if len(items) == 1 else None
    if isinstance(value, strict_json.NotFinite) or not isinstance(value, str | bytes):
        return None
    text = decode(value, "an instruction") if isinstance(value, bytes) else str(value)
    if text.lstrip().startswith('["'):
        with suppress(DataError):  # which is no list then, but somebody's words
            return one_text(strict_json.loads(text.encode("utf-8"), name="an instruction"))
    return text if text.strip() else None


FIRST_OF: Final = ":first_of="
"""Ends the rule of an instruction that is the first of several wordings, and comes before their number."""


def first_text(name: str, value: Any) -> tuple[str, str] | None:
    """(rule, text) of what ``name`` holds: a text, or several wordings of one, of which the first counts that is
    not empty; None where there is none.
    """
    text = one_text(value)
    if text is not None or not isinstance(value, np.ndarray | list | tuple):
        return None if text is None else (name, text)
    items = np.asarray(value, dtype=object).reshape(-1).tolist()
    texts = [one_text(item) for item in items if isinstance(item, str | bytes)]
    found = next((text for text in texts if text is not None), None)
    return (f"{name}{FIRST_OF}{len(items)}", found) if found is not None and len(texts) == len(items) else None


def instructions(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Rule -> instruction, from attributes or other facts called like one."""
    found = {name: one_text(attributes.get(name)) for name in INSTRUCTIONS}
    return {name: text for name, text in found.items() if text is not None}


def written(tables: dict[str, Table]) -> dict[str, str]:
    """Rule -> instruction, from datasets called like one. Those of one row are taken out of ``tables``."""
    found = {}
    for name in INSTRUCTIONS:
        table = tables.get(name)
        if table is None or table.kind != "text" or len(table.shape) > 2:
            continue
        text = one_text(table.read())
        if text is not None:
            found[name] = text
        if len(table) == 1:
            del tables[name]
    return found


def json_of(attributes: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An attribute that is the JSON of a dictionary; an empty one where there is none. NaN in it is a text.

    Raises:
        DataError: E141 when it is no sound JSON.
    """
    text = text_of(attributes, name)
    if text is None:
        return {}
    value = strict_json.loads(text.encode("utf-8"), name=f"attribute {show(name)}", not_finite=True)
    return value if isinstance(value, dict) else {}


def rate_of(*places: Any) -> float | None:
    """``control_freq`` of the first dictionary that has one, in steps per second."""
    for place in places:
        value = place.get("control_freq") if isinstance(place, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool) and 1e-3 <= value <= 1e6:
            return float(value)
    return None


def words(name: str) -> tuple[str, str | None]:
    """Instruction and scene in a LIBERO task's name, as in ``KITCHEN_SCENE10_close_the_top_drawer``."""
    match = _SCENE.fullmatch(name)
    scene, task = (match[1], match[2]) if match else (None, name)
    return " ".join(task.split("_")).strip(), scene


def metadata(**groups: Mapping[str, Any]) -> Json:
    """Attributes as JSON, each group under its name.

    Texts of more than 8,192 characters and arrays of more than 1,024 numbers, such as a simulator's
    ``model_file``, become their SHA-256 and size; numbers that are not finite become text.
    """
    return {
        group: {show(name): plain(value) for name, value in sorted(values.items())}
        for group, values in groups.items()
        if values
    }


def plain(value: Any) -> Json:
    """A value of an attribute or of JSON as JSON, by the rule of `metadata`."""
    if isinstance(value, strict_json.NotFinite):
        return str(value)
    if isinstance(value, str | bytes):
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        text = data.decode("utf-8", "backslashreplace")
        if len(text) > LONG_TEXT:
            return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        return text
    if isinstance(value, dict):
        return {show(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        if value.size > MANY_NUMBERS:
            digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            return {"sha256": digest, "dtype": str(value.dtype), "shape": list(value.shape)}
        return plain(value.tolist())
    if isinstance(value, np.ndarray | list | tuple):
        items = list(value)
        if len(items) > MANY_NUMBERS:
            return {"sha256": hashlib.sha256(json.dumps(items, default=str).encode()).hexdigest()}
        return [plain(item) for item in items]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)
