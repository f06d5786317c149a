"""How features of RLDS records are called here, and back: one rule and its inverse.

    steps/observation/<camera>         observation.images.<camera>     8-bit RGB images
    steps/observation/<x>              observation.<x>                 everything else
    steps/action                       action
    steps/action_dict/<x>              action.<x>                      also steps/action/<x>
    steps/reward, steps/discount       next.reward, next.discount
    steps/is_terminal                  next.terminated
    steps/<x>                          <x>

A ``/`` in ``<x>`` is a ``.`` here. Back, ``action.<x>`` is in ``action_dict`` beside a flat ``action`` and in
``action`` where there is none. ``is_first`` and ``is_last`` are positions and have no name; the instruction is the
task. Two features that would have one name, or a name that is also a folder, are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from vla_data.errors import UsageError
from vla_data.safety.text import show

CAMERA: Final = "observation.images."
ENDS: Final = ("next.discount", "next.reward", "next.terminated", "next.truncated")
"""How an episode ended, which every record of RLDS says (``next.truncated``: ``is_last`` without ``is_terminal``).
Where an episode has none of its own, they follow from a rule of `converters.rlds.fields`."""

POSITIONS: Final = ("is_first", "is_last")
INSTRUCTIONS: Final[tuple[str, ...]] = (
    "steps/language_instruction",
    "steps/observation/language_instruction",
    "steps/observation/natural_language_instruction",
    "steps/natural_language_instruction",
    "episode_metadata/language_instruction",
    "episode_metadata/natural_language_instruction",
    "language_instruction",
    "natural_language_instruction",
)
"""Where an instruction is looked for; the first that is there is the task. What a step says comes first."""

_SPECIAL: Final = {"is_terminal": "next.terminated", "reward": "next.reward", "discount": "next.discount"}
_BACK: Final = {name: path for path, name in _SPECIAL.items()}


def name_of(path: str, *, is_camera: bool) -> str:
    """Our name of a feature; ``path`` is below ``steps``."""
    if path in _SPECIAL:
        return _SPECIAL[path]
    first, *rest = path.split("/")
    if is_camera and first == "observation" and rest:
        return CAMERA + ".".join(rest)
    if first == "action_dict" and rest:
        first = "action"
    return ".".join((first, *rest))


def paths_of(names: Iterable[str], cameras: Sequence[str]) -> dict[str, str]:
    """Our names -> paths below ``steps``. A camera that is alone is called ``image``, as RL4VLA's and OpenVLA's.

    Raises:
        UsageError: E232 when two features can't be in one record.
    """
    arrays = list(names)
    flat = "action" in arrays
    out = {name: _path(name, flat) for name in arrays}
    for name in cameras:
        if len(cameras) == 1:
            out[name] = "observation/image"
        elif name.startswith(CAMERA):
            out[name] = "observation/" + name.removeprefix(CAMERA).replace(".", "/")
        else:
            out[name] = name.replace(".", "/")
    always = [*POSITIONS, "language_instruction", *(path for path, name in _SPECIAL.items() if name not in out)]
    check_paths([*out.values(), *always])
    return out


def _path(name: str, flat: bool) -> str:
    if name in _BACK:
        return _BACK[name]
    parts = name.split(".")
    if "/" in name or not all(parts):
        raise UsageError("E232", f"{show(name)} can't be a feature of RLDS; rename it")
    if parts[0] == "action" and len(parts) > 1 and flat:
        parts[0] = "action_dict"
    return "/".join(parts)


def check_paths(paths: Sequence[str]) -> None:
    """Whether features can be in one record.

    Raises:
        UsageError: E232 for a path that is there twice, or is a folder of another.
    """
    for path, count in Counter(paths).items():
        if count > 1:
            raise UsageError("E232", f"two features would be {show(path)} in RLDS; rename or leave out one")
    known = set(paths)
    for path in paths:
        parts = path.split("/")
        for i in range(1, len(parts)):
            if (folder := "/".join(parts[:i])) in known:
                raise UsageError(
                    "E232", f"{show(folder)} is a feature, so {show(path)} can't be in RLDS; rename one"
                )


def check_names(names: Sequence[str]) -> None:
    """Whether features of a record have different names here.

    Raises:
        UsageError: E232.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise UsageError(
                "E232", f"two features would be called {show(name)}; leave out one (--leave-out PATH)"
            )
