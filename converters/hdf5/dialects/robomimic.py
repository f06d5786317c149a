"""robomimic's datasets, and what follows its layout (robosuite, MimicGen, Isaac Lab).

::

    data                     attribute env_args: JSON with env_name, type, env_kwargs
    data/demo_<i>/actions    (N, D)
    data/demo_<i>/obs/*      (N, ...) before each action, images upright
    data/demo_<i>/next_obs/* (N, ...) after each action
    data/demo_<i>/states     (N, S)   before each action
    data/demo_<i>/rewards, dones
    mask/<filter key>        names of demos

    data/demo_<i>/states/**            (N, ...) after each action, and initial_state/** (1, ...) (Isaac Lab)

**Time.** Told by `lag_of` where the demo has the joints of one robosuite arm and its states; otherwise before, as
robomimic defines its layout. ``next_obs`` that is ``obs`` one step later says "before"; where the joints say
"after", it must be declared. **States.** By the same rule, and `converters.hdf5.dialects.sim_states`.
**Orientation.** robomimic's exporter turns robosuite's images upright. Of images with LIBERO's names, which others
write as its environment gives them, it must be declared, unless the file is ours.
**Language, scene, seed.** Keys ``lang``, ``scene`` and ``seed`` of the attribute ``ep_meta`` (RoboCasa's, ours),
or attributes and datasets called like an instruction.
**Names and conventions** of features: attribute ``vla_data_feature`` of a dataset (ours). **Origin**: attribute
``vla_data_origin`` of a demo (ours). **Facts** of an episode: attribute ``vla_data_facts`` of a demo (ours).

**``next_obs``** is no feature: it is ``obs`` one step later, and one demo in which it is not would give a file two
kinds of episodes. Its last images are the end of the episode; a note says whether its numbers are ``obs`` one step
later or were left out. `converters.hdf5.source.Hdf5Source.next_obs` asks for them, of every demo. What lies there
in files of ours and is not ``derived_by`` of something is a feature that was called so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from converters.hdf5.dialects.base import (
    BY_STATES,
    Demo,
    Found,
    collect,
    instructions,
    is_images,
    json_of,
    lag_of,
    metadata,
    observation,
    one_text,
    rate_of,
    text_of,
    written,
)
from converters.hdf5.dialects.in_data import CAMERAS, InData, robot_of, steps, success_of
from converters.hdf5.dialects.odd import Odd
from converters.hdf5.robosuite_controller import controller_of
from converters.robomimic.names import DECLARED, DERIVED, FACTS, ID, ORIGIN, origin_of
from vla_data.errors import DataError
from vla_data.safety.hdf5 import Group, Table
from vla_data.safety.text import show

_COMPARED: Final = 64 << 20


class Robomimic(InData):
    """See this module. ``observation.state`` is robot0_eef_pos (3, m), robot0_eef_quat (4, xyzw) and
    robot0_gripper_qpos.
    """

    name: ClassVar[str] = "robomimic"
    state: ClassVar[tuple[str, ...]] = (
        "observation.robot0_eef_pos",
        "observation.robot0_eef_quat",
        "observation.robot0_gripper_qpos",
    )

    def fits(self, top: Group) -> bool:
        """By the group ``data``; asked after LIBERO, which has it too."""
        return "data" in top

    def demo(self, data: Group, demo: Group, path: Path) -> Demo:
        """See `InData`."""
        about, own = data.attributes(), demo.attributes()
        odd: list[Odd] = []
        made = steps(demo, odd)
        results, before, extra, notes = dict(made.results), dict(made.before), dict(made.extra), list(made.notes)
        if "obs" not in demo and ID not in own:
            # collect_human_demonstrations.py writes states alone.
            if "states" in demo and not any(name.startswith("obs") for name in demo.names()):
                raise DataError(
                    "E206",
                    f"{show(demo.path)}/obs is missing: raw demonstrations have states alone; robomimic's "
                    "dataset_states_to_obs.py adds observations",
                )
            demo.group("obs")
        obs, more = collect(demo.group("obs"), odd=odd) if "obs" in demo else ({}, [])
        notes += more
        following: dict[str, Table] = {}
        next_obs: dict[str, Table] = {}
        if "next_obs" in demo:
            after, more = collect(demo.group("next_obs"), odd=odd)
            notes += more
            following = {
                observation(k, t): t for k, t in after.items() if t.attributes().get("last_row") != "repeated"
            }
            named = {k: t for k, t in after.items() if ID in own and DERIVED not in t.attributes()}
            results |= {f"next.observation.{k}": t for k, t in named.items()}
            rest = {k: t for k, t in after.items() if k not in named}
            next_obs = {f"next.{observation(k, t)}": t for k, t in rest.items()}
            if rest:
                shifted = _is_shifted(obs, rest)
                notes.append("next_obs_is_obs_one_step_later" if shifted else "next_obs_is_not_obs_one_step_later")
        joints, states = obs.get("robot0_joint_pos"), before.get("observation.sim_state")
        lag = lag_of(joints, states) if joints is not None and states is not None else None
        doubts = {}
        if lag == 1 and "next_obs_is_obs_one_step_later" in notes:
            doubts["observation_time"] = (
                "its states say that they are of after, its next_obs that they are of before"
            )
        if lag == -1:  # states are of after the action that they stand beside
            results["next.observation.sim_state"] = before.pop("observation.sim_state")
            notes.append("states_are_of_after_the_action")
        time = (
            Found("before", "robomimic_layout")
            if lag is None
            else Found("after" if lag == 1 else "before", BY_STATES)
        )
        env = json_of(own, "env_args") or json_of(about, "env_args")
        kwargs = env.get("env_kwargs")
        told = json_of(own, "ep_meta")
        origin = origin_of(json_of(own, ORIGIN))
        seen = {observation(key, table): table for key, table in obs.items()}
        declared = {
            name: dict(json_of(table.attributes(), DECLARED))
            for name, table in {**made.actions, **results, **before, **extra, **seen}.items()
        }
        scene, seed = told.get("scene"), told.get("seed", own.get("seed"))
        lang = one_text(told.get("lang"))
        languages = {"ep_meta": lang} if lang is not None else {}
        languages |= instructions(own) | written(extra) | instructions(about) | instructions(env)
        languages |= instructions(kwargs if isinstance(kwargs, dict) else {})
        return replace(
            made,
            results=results,
            before=before,
            extra=extra,
            seen=seen,
            following=following,
            next_obs=next_obs,
            time=None if doubts else time,
            doubts=doubts,
            orientation=None if ID not in own and _has_cameras(obs) else Found("none", "robomimic_layout"),
            channels=Found("rgb", "robomimic_layout"),
            languages=languages,
            fps=rate_of(kwargs, env),
            robot=robot_of(kwargs),
            facts={
                "scene": one_text(scene),
                "seed": int(seed) if isinstance(seed, int | np.integer) else None,
                "success": success_of(own),
                "env": env.get("env_name") if isinstance(env.get("env_name"), str) else text_of(about, "env"),
                "controller": controller_of(kwargs),
                "env_version": env.get("env_version") if isinstance(env.get("env_version"), str) else None,
                "declared": {name: told for name, told in declared.items() if told} or None,
                "origin": origin or None,
                "episode_metadata": {
                    **json_of(own, FACTS),
                    **metadata(
                        demo={key: value for key, value in own.items() if key not in (ORIGIN, FACTS)}, file=about
                    ),
                },
            },
            notes=tuple(notes),
            odd=tuple(odd),
        )


def _has_cameras(obs: Mapping[str, Table]) -> bool:
    """Whether there are cameras with LIBERO's names, also of image files."""
    return any(key.removesuffix("_jpeg").removesuffix("_png") in CAMERAS for key in obs)


def _is_shifted(obs: Mapping[str, Table], after: Mapping[str, Table]) -> bool:
    """Whether what was seen after each action is what was seen before the next one.

    Looked up in the numbers of all keys but images; those come from the same moments.
    """
    if obs.keys() != after.keys():
        return False
    for key, table in obs.items():
        other = after[key]
        if table.shape != other.shape or table.kind != other.kind:
            return False
        if table.kind == "number" and not is_images(table) and table.nbytes <= _COMPARED:
            same = np.array_equal(
                table.read(1), other.read(0, max(len(other) - 1, 0)), equal_nan=table.dtype.kind == "f"
            )
            if not same:
                return False
    return True
