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

**Orientation.** ``macros_image_convention`` is "opengl" (rows from the bottom up: vflip) or "opencv" (none). A
file without any attribute on ``data`` whose simulator's states tell the time is OpenVLA's script's, which stores
what the environment gives: vflip, rule "libero_environment". Of all others it must be declared.

**Language.** What a demo's own attributes or datasets say comes first. LIBERO has two texts for most tasks. Its
benchmark, and everything that is evaluated on it, says the one in the names of files and BDDL files:
``bddl_file_name``, then ``problem_info`` (JSON, or the text itself), then attributes of ``data`` that are called
like an instruction, then the name of the HDF5 file when it ends in ``_demo``.

**Success** is not recorded by LIBERO, and is not made up from the last reward.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final

import numpy as np

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
    required,
    text_of,
    time_by_states,
    words,
    written,
)
from converters.hdf5.dialects.sim_states import states_of
from converters.hdf5.robosuite_controller import controller_of
from converters.robomimic.names import DERIVED, ID
from vla_data.errors import DataError
from vla_data.safety.hdf5 import Group, Table

_ATTRIBUTES: Final = ("bddl_file_name", "problem_info", "macros_image_convention")
CAMERAS: Final = frozenset({"agentview_rgb", "eye_in_hand_rgb"})
_TRUTHS: Final = ("success", "fail", "terminated", "truncated")
_TRIED: Final = 8
_FLIPS: Final = {"opengl": "vflip", "opencv": "none"}


class Libero:
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
        return "env_args" not in about and any(_has_cameras(data, name) for name in demo_names(top)[:_TRIED])

    def demos(self, top: Group) -> list[str]:
        """The names in ``data``."""
        return demo_names(top)

    def read(self, top: Group, name: str, path: Path, root: Path) -> Demo:
        """One demo. See `converters.hdf5.dialects.base.Layout`."""
        data = top.group("data")
        demo = data.group(name)
        about, own = data.attributes(), demo.attributes()
        action, results, before, extra, notes = steps(demo)
        obs, more = collect(demo.group("obs"))
        seen = {observation(key, table): table for key, table in obs.items()}
        if "robot_states" in extra:  # recorded with the observations, not with the states
            seen["observation.robot_states"] = extra.pop("robot_states")
        time = _time(demo) or _time_of_file(data)
        script = not about and time is not None
        env = json_of(about, "env_args")
        kwargs = env.get("env_kwargs")
        languages, scene = _languages(about, path.name)
        languages = {**instructions(own), **written(extra), **languages}
        return Demo(
            action=action,
            results=results,
            before=before,
            seen=seen,
            extra=extra,
            time=time,
            orientation=Found("vflip", "libero_environment") if script else _orientation(about),
            channels=Found("rgb", "libero_environment"),
            languages=languages,
            fps=rate_of(kwargs, env),
            robot=robot_of(kwargs),
            facts={
                "env": text_of(about, "env_name"),
                "scene": scene,
                "controller": controller_of(kwargs),
                "episode_metadata": metadata(demo=own, file=about),
            },
            notes=(*notes, *more),
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


def demo_names(top: Group) -> list[str]:
    """The names in ``data``, or E206."""
    return top.group("data").names()


def steps(
    demo: Group,
) -> tuple[Table, dict[str, Table], dict[str, Table], dict[str, Table], list[str]]:
    """What a robomimic-style demo has beside its observations.

    Returns:
        Its actions; rewards, dones and truth values (see `_flags`) as ``next.*``; the simulator's states;
        everything else; and notes.
    """
    action = required(demo, "actions")
    extra, notes = collect(demo, skip=("obs", "next_obs", "actions"), extra=True)
    results = {}
    for key, name in (("rewards", "next.reward"), ("dones", "next.done"), *_flags(extra, len(action))):
        table = extra.pop(key, None)
        if table is not None and DERIVED in table.attributes():
            notes.append(f"left_out_as_derived:{key}")
        elif table is not None:
            results[name] = table
    before, more = states_of(extra, ours=ID in demo.attributes())
    notes += more
    count = demo.attributes().get("num_samples")
    if count is not None and count != len(action):
        raise DataError("E204", f"{len(action):,} actions, where num_samples is {str(count)[:20]}")
    return action, results, before, extra, notes


def _flags(tables: Mapping[str, Table], count: int) -> list[tuple[str, str]]:
    """(dataset, feature) of the truth values beside the actions: `_TRUTHS` of booleans or integers, one a step.

    Booleans and integers by their type, so that all demos of a file are of one kind; integers other than 0 and 1
    are refused when they are read. Floats where each is 0 or 1; others may be a score, and stay what they are
    called.
    """
    return [
        (key, f"next.{key}")
        for key, table in tables.items()
        if key in _TRUTHS
        and f"next.{key}" not in tables
        and table.kind == "number"
        and table.shape in ((count,), (count, 1))
        and (table.dtype.kind in "biu" or bool(np.isin(table.read(), (0, 1)).all()))
    ]


def robot_of(kwargs: Any) -> str | None:
    """Robosuite's ``robots``, one name or a list of them, in small letters."""
    robots = kwargs.get("robots") if isinstance(kwargs, dict) else None
    names = [robots] if isinstance(robots, str) else robots if isinstance(robots, list) else []
    known = all(isinstance(name, str) and name.isidentifier() and len(name) < 64 for name in names)
    return "_".join(name.lower() for name in names) if names and known else None


def _time(demo: Group) -> Found | None:
    """What a demo's own joints and states tell."""
    if "obs" not in demo or "states" not in demo:
        return None
    obs = demo.group("obs")
    if "joint_states" not in obs:
        return None
    joints, states = obs["joint_states"], demo["states"]
    return time_by_states(joints, states) if isinstance(joints, Table) and isinstance(states, Table) else None


def _time_of_file(data: Group) -> Found | None:
    """What the first demos of a file tell that tell anything, where they agree: one script wrote all of them."""
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
