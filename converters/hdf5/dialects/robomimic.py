"""robomimic's datasets, and what follows its layout (robosuite, MimicGen, Isaac Lab).

::

    data                     attribute env_args: JSON with env_name, type, env_kwargs
    data/demo_<i>/actions    (N, D)
    data/demo_<i>/obs/*      (N, ...) before each action, images upright
    data/demo_<i>/next_obs/* (N, ...) after each action
    data/demo_<i>/states     (N, S)   before each action
    data/demo_<i>/rewards, dones
    mask/<filter key>        names of demos

**Time.** Told by `time_by_states` where the demo has the joints of one robosuite arm and its states; otherwise
before, as robomimic defines its layout. **Orientation.** robomimic's exporter turns robosuite's images upright.
**Language, scene, seed.** Keys ``lang``, ``scene`` and ``seed`` of the attribute ``ep_meta`` (RoboCasa's, ours).
**Names and conventions** of features: attribute ``vla_data_feature`` of a dataset (ours). **Origin**: attribute
``vla_data_origin`` of a demo (ours). **Facts** of an episode: attribute ``vla_data_facts`` of a demo (ours).

**``next_obs``** is no feature: it is ``obs`` one step later, and one demo in which it is not would give a file two
kinds of episodes. Its last images are the end of the episode; a note says whether its numbers are ``obs`` one step
later or were left out. `converters.hdf5.source.Hdf5Source.next_obs` asks for them, of every demo. What lies there
in files of ours and is not ``derived_by`` of something is a feature that was called so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from converters.hdf5.dialects.base import (
    Demo,
    Found,
    collect,
    is_images,
    json_of,
    metadata,
    observation,
    rate_of,
    text_of,
    time_by_states,
)
from converters.hdf5.dialects.libero import controller_of, demo_names, robot_of, steps
from converters.robomimic.names import DECLARED, DERIVED, FACTS, ORIGIN, origin_of
from vla_data.safety.hdf5 import Group, Table

_ID: Final = "vla_data_id"
_COMPARED: Final = 64 << 20


class Robomimic:
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
        notes += more
        following: dict[str, Table] = {}
        next_obs: dict[str, Table] = {}
        if "next_obs" in demo:
            after, more = collect(demo.group("next_obs"))
            notes += more
            following = {
                observation(k, t): t for k, t in after.items() if t.attributes().get("last_row") != "repeated"
            }
            named = {k: t for k, t in after.items() if _ID in own and DERIVED not in t.attributes()}
            results |= {f"next.observation.{k}": t for k, t in named.items()}
            rest = {k: t for k, t in after.items() if k not in named}
            next_obs = {f"next.{observation(k, t)}": t for k, t in rest.items()}
            if rest:
                shifted = _is_shifted(obs, rest)
                notes.append("next_obs_is_obs_one_step_later" if shifted else "next_obs_is_not_obs_one_step_later")
        time = None
        joints, states = obs.get("robot0_joint_pos"), before.get("observation.sim_state")
        if joints is not None and states is not None:
            time = time_by_states(joints, states)
        env = json_of(own, "env_args") or json_of(about, "env_args")
        kwargs = env.get("env_kwargs")
        told = json_of(own, "ep_meta")
        origin = origin_of(json_of(own, ORIGIN))
        seen = {observation(key, table): table for key, table in obs.items()}
        declared = {
            name: dict(json_of(table.attributes(), DECLARED))
            for name, table in {"action": action, **results, **before, **extra, **seen}.items()
        }
        lang, scene, seed = told.get("lang"), told.get("scene"), told.get("seed")
        return Demo(
            action=action,
            results=results,
            before=before,
            extra=extra,
            seen=seen,
            following=following,
            next_obs=next_obs,
            time=time or Found("before", "robomimic_layout"),
            orientation=Found("none", "robomimic_layout"),
            channels=Found("rgb", "robomimic_layout"),
            languages={"ep_meta": lang} if isinstance(lang, str) else {},
            fps=rate_of(kwargs, env),
            robot=robot_of(kwargs),
            facts={
                "scene": scene if isinstance(scene, str) else None,
                "seed": seed if isinstance(seed, int) else None,
                "env": env.get("env_name") if isinstance(env.get("env_name"), str) else text_of(about, "env"),
                "controller": controller_of(kwargs),
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
        )


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
