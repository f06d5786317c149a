"""What of a demo nobody wants, by the place that it has in its file: it is not looked at."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import Final

_ACTION: Final = "action"
_SEEN: Final = ("obs", "observations")
_CALLED: Final = {"qpos": "observation.state", "qvel": "observation.velocity"}
_CAMERA: Final = re.compile(r"sensor_data\.(.+)\.(?:rgb|Color)")
_EVIDENCE: Final = ("joint_states", "robot0_joint_pos")
"""Observations by which the time of all is told: see `converters.hdf5.dialects.base.lag_of`."""
_NOBODYS: Final = "\0"  # no feature is named so: it is unwanted where everything is that nobody names


def hidden(
    demo: str,
    state: Sequence[str],
    leave_out: Container[str],
    unwanted: Container[str],
    path: str,
    what: str,
) -> str:
    """What is left out at a path, by its path or feature; nothing for what is read.

    Args:
        demo: name of the demo, or "" where the file is one.
        state: observations that make up ``observation.state`` where there is none.
        leave_out: paths below the demo.
        unwanted: features.
        path: in the file.
        what: lies there; see `vla_data.safety.hdf5.File.hide`.
    """
    for prefix in (f"data/{demo}/", f"{demo}/") if demo else ("",):
        if not path.startswith(prefix):
            continue
        below = path.removeprefix(prefix)
        if below in leave_out:
            return below
        names = _features(below)
        if _NOBODYS in unwanted and not _is_unnamed(below, what, names, unwanted):
            return ""  # a list of what stays, on which a folder's own name need not be
        if below == _ACTION:  # which says how long an episode is; a step leaves it out
            return ""
        if not set(names) & set(state) or "observation.state" in unwanted:
            return next((name for name in names if name in unwanted), "")
    return ""


def _features(below: str) -> tuple[str, ...]:
    """The features that a dataset at a path below a demo may be."""
    first, _, rest = below.partition("/")
    key = rest.replace("/", ".")
    if first not in _SEEN or not rest:
        return (below.replace("/", "."),)
    if rest in _CALLED:
        return (_CALLED[rest],)
    if camera := _CAMERA.fullmatch(key):
        return (f"observation.{key}", f"observation.images.{camera[1]}")
    return (f"observation.{key}", f"observation.images.{key.removeprefix('images.')}")


def _is_unnamed(below: str, what: str, names: Sequence[str], unwanted: Container[str]) -> bool:
    """Whether a dataset of observations is none that stays, nor one by which the time is told."""
    first, _, key = below.partition("/")
    if what not in ("numbers", "dataset") or first not in _SEEN or not key or key in _EVIDENCE:
        return False
    may_be = names[:1] if what == "numbers" else names  # the first is that of no camera
    return all(name in unwanted for name in may_be)
