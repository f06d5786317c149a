"""ManiSkill 3's recorded trajectories: an ``.h5`` file with a ``.json`` of the same name beside it.

::

    traj_<i>/actions     (N, D)
    traj_<i>/obs         (N+1, D) or nested groups of N+1 rows; sensor_data/<camera>/rgb are images
    traj_<i>/env_states  (N+1, ...) nested
    traj_<i>/terminated, truncated, success, fail, rewards   (N,) after each action

**Time.** There is one observation more than actions: before, and the last one is of the end. Files with ``N``
observations don't tell. **Orientation.** Upright. **Control rate.** ``control_freq`` of the JSON's ``env_kwargs``
or of its ``sim_config``; most files don't have it. **Language.** Attributes or facts called like an instruction.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from converters.hdf5.dialects.actions import actions_of
from converters.hdf5.dialects.base import (
    Demo,
    Found,
    collect,
    instructions,
    is_images,
    metadata,
    observation,
    rate_of,
)
from converters.hdf5.dialects.odd import Odd, beside
from vla_data.errors import DataError
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.hdf5 import Group, Table

_DEMO: Final = re.compile(r"traj_([0-9]{1,9})")
_IMAGES: Final = re.compile(r"sensor_data\.(.+)\.(?:rgb|Color)")
_RESULTS: Final = {
    "rewards": "next.reward",
    "success": "next.success",
    "fail": "next.fail",
    "terminated": "next.terminated",
    "truncated": "next.truncated",
    "dones": "next.done",
}


class ManiSkill:
    """See this module. ``observation.state`` is obs/agent/qpos, or obs itself where that is one table."""

    name: ClassVar[str] = "maniskill"
    state: ClassVar[tuple[str, ...]] = ("observation.agent.qpos",)

    def fits(self, top: Group) -> bool:
        """By groups named ``traj_<number>``."""
        return any(_DEMO.fullmatch(name) for name in top.names())

    def demos(self, top: Group) -> list[str]:
        """Every ``traj_<number>``."""
        return [name for name in top.names() if _DEMO.fullmatch(name)]

    def read(self, top: Group, name: str, path: Path, root: Path) -> Demo:
        """One trajectory. See `converters.hdf5.dialects.base.Layout`."""
        traj = top.group(name)
        if "obs" not in traj:
            raise DataError("E206", "there are no observations; ManiSkill's replay_trajectory adds them (-o rgb)")
        odd: list[Odd] = []
        whole = traj["obs"]
        obs, notes = ({"state": whole}, []) if isinstance(whole, Table) else collect(whole, odd=odd)
        extra, more = collect(traj, odd=odd, skip=("obs", "actions"))
        with beside(odd):
            actions = actions_of(traj, "actions", odd)
        number = len(next(iter(actions.values())))
        notes += more
        results = {_RESULTS[key]: extra.pop(key) for key in tuple(_RESULTS) if key in extra}
        before = {
            f"observation.sim_state{key.removeprefix('env_states')}": extra.pop(key)
            for key in tuple(extra)
            if key == "env_states" or key.startswith("env_states.")
        }
        about, own = _beside(path, root, name)
        kwargs = about.get("env_kwargs")
        config = kwargs.get("sim_config") if isinstance(kwargs, dict) else None
        if not about:
            notes.append("no_json_beside_the_file")
        steps = own.get("elapsed_steps")
        if isinstance(steps, int) and steps != number:
            notes.append("elapsed_steps_differs")
        mode, seed, env = own.get("control_mode"), own.get("episode_seed"), about.get("env_id")
        return Demo(
            actions=actions,
            results=results,
            before=before,
            extra=extra,
            seen={_name(key, table): table for key, table in obs.items()},
            time=Found("before", "one_more_observation") if _one_more(obs, number) else None,
            orientation=Found("none", "maniskill_layout"),
            channels=Found("rgb", "maniskill_layout"),
            languages={**instructions(traj.attributes()), **instructions(own)},
            fps=rate_of(kwargs, config),
            facts={
                "env": env if isinstance(env, str) else None,
                "seed": seed if isinstance(seed, int) else None,
                "controller": {"type": mode} if isinstance(mode, str) else None,
                "episode_metadata": metadata(
                    demo={**traj.attributes(), **own}, file={**top.attributes(), **about}
                ),
            },
            notes=tuple(notes),
            odd=tuple(odd),
        )


def sidecar(path: Path) -> Path:
    """The JSON beside a file of trajectories."""
    return path.with_suffix(".json")


def _name(key: str, table: Table) -> str:
    camera = _IMAGES.fullmatch(key)
    if camera and is_images(table):
        return f"observation.images.{camera[1]}"
    return observation(key, table)


def _one_more(obs: Mapping[str, Table], steps: int) -> bool:
    return bool(obs) and all(len(table) == steps + 1 for table in obs.values())


def _beside(path: Path, root: Path, name: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What the JSON says of all trajectories, and of this one."""
    place = sidecar(path)
    try:
        found = place.stat()
    except FileNotFoundError:
        return {}, {}
    about, episodes = _load(place, root, found.st_size, found.st_mtime_ns)
    match = _DEMO.fullmatch(name)
    return about, episodes.get(int(match[1]), {}) if match else {}


@functools.lru_cache(maxsize=4)
def _load(
    place: Path, root: Path, _size: int, _mtime: int
) -> tuple[Mapping[str, Any], Mapping[int, Mapping[str, Any]]]:
    """``env_info``, and the facts of each episode by its number; read once for all trajectories of a file."""
    value = strict_json.loads(read_file(place, root=root)[0], name=place.name, not_finite=True)
    about = value.get("env_info") if isinstance(value, dict) else None
    listed = value.get("episodes") if isinstance(value, dict) else None
    if not isinstance(about, dict) or not isinstance(listed, list):
        raise DataError("E141", f"{place.name} has no env_info and episodes")
    episodes = {}
    for episode in listed:
        number = episode.get("episode_id") if isinstance(episode, dict) else None
        if not isinstance(number, int):
            raise DataError("E141", f"{place.name} lists an episode without episode_id")
        if number in episodes:
            raise DataError("E141", f"{place.name} lists episode {number} twice")
        episodes[number] = episode
    return about, episodes
