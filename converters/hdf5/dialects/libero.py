"""LIBERO's demonstrations, as its ``create_dataset.py`` writes them and as OpenVLA's script regenerates them.

::

    data                     attributes: problem_info, bddl_file_name, env_args, macros_image_convention (original)
    data/demo_<i>/actions    (N, 7)   controller inputs
    data/demo_<i>/states     (N, S)   MuJoCo's state before each action, in both kinds of file
    data/demo_<i>/robot_states, obs/agentview_rgb, obs/eye_in_hand_rgb, obs/joint_states, obs/ee_pos, ...
    data/demo_<i>/rewards, dones     1 in the last row of every demo, solved or not
    data/demo_<i>/success, fail, terminated, truncated    by others: truth values of after each action

**Time.** LIBERO steps the environment and stores what it gives, so observation ``j`` is of after action ``j``;
OpenVLA's script stores it before it steps; others write the layout from data of either kind. Told by
`time_by_states` of the demo, else of the first demos of its file that tell, where they agree. Not told by
attributes: they are copied along.

**Orientation.** ``macros_image_convention`` is "opengl" (rows from the bottom up: vflip) or "opencv" (none). Of
all others it must be declared: OpenVLA's script stores what the environment gives, from the bottom up, and those
who changed it turn the images first; their files differ in nothing else.

**Language.** What a demo's own attributes or datasets say comes first. LIBERO has two texts for most tasks. Its
benchmark, and everything that is evaluated on it, says the one in the names of files and BDDL files:
``bddl_file_name``, then ``problem_info`` (JSON, or the text itself), then attributes of ``data`` that are called
like an instruction, then the name of the HDF5 file when it ends in ``_demo``.

**Success** is not recorded by LIBERO, and is not made up from the last reward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final

from converters.hdf5.dialects.base import (
    Demo,
    Found,
    collect,
    instructions,
    json_of,
    metadata,
    observation,
    one_text,
    rate_of,
    text_of,
    time_by_states,
    words,
    written,
)
from converters.hdf5.dialects.in_data import CAMERAS, InData, robot_of, steps, success_of
from converters.hdf5.dialects.odd import Odd
from converters.hdf5.robosuite_controller import controller_of
from vla_data.errors import DataError
from vla_data.safety.hdf5 import Group, Table

_ATTRIBUTES: Final = ("bddl_file_name", "problem_info", "macros_image_convention")
_TRIED: Final = 8
_BOTTOM_UP: Final = "vflip where they are as LIBERO's environment gives them, as in files of OpenVLA's script"
_FLIPS: Final = {"opengl": "vflip", "opencv": "none"}


class Libero(InData):
    """See this module. ``observation.state`` is ee_pos (3, m), ee_ori (3, rotation vector, rad) and gripper_states
    (2, m), as OpenVLA and openpi have it.
    """

    name: ClassVar[str] = "libero"
    state: ClassVar[tuple[str, ...]] = ("observation.ee_pos", "observation.ee_ori", "observation.gripper_states")

    def fits(self, top: Group) -> bool:
        """By LIBERO's attributes; or, where ``data`` has no ``env_args`` as robomimic's layout always has, by
        LIBERO's names of cameras in a demo.
        """
        if "data" not in top:
            return False
        data = top.group("data")
        about = data.attributes()
        if any(name in about for name in _ATTRIBUTES):
            return True
        return "env_args" not in about and any(_has_cameras(data, name) for name in data.names()[:_TRIED])

    def demo(self, data: Group, demo: Group, path: Path) -> Demo:
        """See `InData`."""
        about, own = data.attributes(), demo.attributes()
        obs, more = collect(demo.group("obs"), odd=(odd := list[Odd]()))
        made = steps(demo, odd)
        extra = dict(made.extra)
        seen = {observation(key, table): table for key, table in obs.items()}
        if "robot_states" in extra:  # recorded with the observations, not with the states
            seen["observation.robot_states"] = extra.pop("robot_states")
        time = _time(demo) or _time_of_file(data)
        env = json_of(about, "env_args")
        kwargs = env.get("env_kwargs")
        languages, scene = _languages(about, path.name)
        languages = {**instructions(own), **written(extra), **languages}
        return replace(
            made,
            seen=seen,
            extra=extra,
            time=time,
            orientation=_orientation(about),
            doubts={"image_orientation": _BOTTOM_UP},
            channels=Found("rgb", "libero_environment"),
            languages=languages,
            fps=rate_of(kwargs, env),
            robot=robot_of(kwargs),
            facts={
                "env": text_of(about, "env_name"),
                "scene": scene,
                "controller": controller_of(kwargs),
                "success": success_of(own),
                "episode_metadata": metadata(demo=own, file=about),
            },
            notes=(*made.notes, *more),
            odd=tuple(odd),
        )


def _problem(about: Mapping[str, Any]) -> str | None:
    """The instruction of ``problem_info``: JSON with ``language_instruction``, a text or its words, or the
    text.
    """
    text = text_of(about, "problem_info")
    if text is not None and text.strip() and text.strip()[0] not in '{["':
        return text
    problem = json_of(about, "problem_info").get("language_instruction")
    if isinstance(problem, list) and all(isinstance(word, str) for word in problem):
        problem = " ".join(problem)
    return one_text(problem)


def _time(demo: Group) -> Found | None:
    """What a demo's own joints and states tell."""
    if "obs" not in demo or "states" not in demo:
        return None
    obs = demo.group("obs")
    if "joint_states" not in obs:
        return None
    joints, states = obs["joint_states"], demo["states"]
    return time_by_states(joints, states) if isinstance(joints, Table) and isinstance(states, Table) else None


_MOST_FILES: Final = 64
_files: dict[object, Found | None] = {}
"""State of a file -> what `_time_of_file` found: all demos of a file that do not tell ask for it."""


def _time_of_file(data: Group) -> Found | None:
    """What the first demos of a file tell that tell anything, where they agree: one script wrote all of them."""
    if data.file.hidden is not None:  # what is left out may be what tells
        return _agreed(data)
    if data.file.facts not in _files:
        if len(_files) >= _MOST_FILES:
            _files.clear()
        _files[data.file.facts] = _agreed(data)
    return _files[data.file.facts]


def _agreed(data: Group) -> Found | None:
    told = set()
    for name in data.names()[:_TRIED]:
        try:
            found = _time(data.group(name))
        except DataError:  # that demo is bad
            continue
        if found is not None:
            told.add(found.value)
    return Found(told.pop(), "joints_in_states_of_the_file") if len(told) == 1 else None


def _has_cameras(data: Group, name: str) -> bool:
    try:
        return not CAMERAS.isdisjoint(data.group(name).group("obs").names())
    except DataError:  # that demo is bad; another may tell
        return False


def _orientation(about: Mapping[str, Any]) -> Found | None:
    convention = text_of(about, "macros_image_convention")
    flip = _FLIPS.get(convention or "")
    return Found(flip, "macros_image_convention") if flip else None


def _languages(about: Mapping[str, Any], file: str) -> tuple[dict[str, str], str | None]:
    """Rule -> instruction, the preferred one first; and the scene."""
    out: dict[str, str] = {}
    scene = None
    bddl = text_of(about, "bddl_file_name")
    if bddl is not None and bddl.endswith(".bddl"):
        out["bddl_file_name"], scene = words(PurePosixPath(bddl.replace("\\", "/")).stem)
    problem = _problem(about)
    if problem is not None:
        out["problem_info"] = problem.strip().strip('"')
    out |= instructions(about)
    stem = file.rpartition(".")[0] or file
    if stem.endswith("_demo"):
        out["file_name"], of_file = words(stem.removesuffix("_demo"))
        scene = scene or of_file
    return out, scene
