"""Nine prompts on one table, in MuJoCo: the environment that every workflow here learns in.

    env = Tabletop()
    observation, info = env.reset(options={"initial_state": start})
    observation, reward, terminated, truncated, info = env.step(action)

Observations have LeRobot's keys: ``agent_pos``, and ``pixels`` by camera where cameras are asked for. The prompt
is in ``env.task`` and in every info, the success flag in ``info["is_success"]``.
"""

from __future__ import annotations

import functools
import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from training_adapters.envs.scene import BLOCK_HEIGHT, FINGER_CLOSED, FINGER_OPEN, HAND_HEIGHT, scene
from training_adapters.envs.starts import VERBS, Start, draw_start
from vla_data.errors import UsageError

Array = NDArray[np.float64]
Observation = dict[str, Any]

STATE: Final = 19
"""Numbers of ``agent_pos``: hand joints x, y, z (m), yaw (rad); both fingers (m); for each block its position from
the hand (m) and its height (m); the gripper command in force (+1 open, -1 closed)."""

SLOTS: Final = (6, 3, 4)
"""Where the blocks are in it: the first number, how many blocks, numbers of each."""

FPS: Final = 20.0
MAX_STEPS: Final = 48
CAMERAS: Final = ("top", "side")
_JOINTS_ZERO: Final = np.array([0.0, 0.0, HAND_HEIGHT])  # where the hand is with its joints at 0
_SUBSTEPS: Final = 10
_GRIPPER_HOLDS: Final = 0.2  # commands smaller than this keep the gripper as it is
_REACH, _REACHED, _PUSHED, _LIFTED = 0.07, 0.02, 0.07, 0.07  # metres

LIMITS: Final = np.array([0.05] * 3 + [0.5] * 3 + [1.0], dtype=np.float32)
"""The largest action: a translation (m) and a rotation vector (rad) from the hand's pose now, in the table's axes,
of which yaw alone is actuated; and the gripper, towards +1 open or -1 closed."""


@functools.cache
def _mujoco() -> Any:
    """MuJoCo, told to render without a display where there is none; it reads this when it is imported."""
    if sys.platform == "linux" and "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
    import mujoco

    return mujoco


@functools.cache
def _model() -> Any:
    return _mujoco().MjModel.from_xml_string(scene())


_RENDERERS: Final[weakref.WeakValueDictionary[int, Any]] = weakref.WeakValueDictionary()
"""By size: all scenes of a process draw with the same ones, which have a context of OpenGL each."""


def _renderer(size: int) -> Any:
    """What draws images of a size, without shadows and reflections, which cost ten times more.

    Raises:
        UsageError: E006, the machine has no way to render.
    """
    made = _RENDERERS.get(size)
    if made is None:
        mujoco = _mujoco()
        try:
            made = mujoco.Renderer(_model(), size, size)
        except Exception as error:  # of OpenGL, whichever is installed
            raise UsageError(
                "E006",
                f"MuJoCo cannot render here ({type(error).__name__}): install libegl1, and set MUJOCO_GL=egl"
                " before mujoco is imported",
            ) from None
        for flag in ("mjRND_SHADOW", "mjRND_REFLECTION", "mjRND_HAZE"):
            made.scene.flags[getattr(mujoco.mjtRndFlag, flag)] = 0
        _RENDERERS[size] = made
    return made


class Tabletop(gymnasium.Env[Observation, NDArray[np.float32]]):
    """Reach, push or lift the block that the prompt names; an episode ends with success or after ``max_steps``.

    Args:
        cameras: of ``top`` and ``side``; none are rendered without.
        size: height and width of their images.
        max_steps: steps until truncation.

    The reward is 1 with success and 0 before. ``reset`` takes ``options={"initial_state": ...}``, a `Start` or its
    JSON, and with it replays a sequence of actions bit by bit; without, the start is drawn from the seed.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012 - gymnasium's own
    render_mode = "rgb_array"

    def __init__(self, *, cameras: Sequence[str] = (), size: int = 64, max_steps: int = MAX_STEPS) -> None:
        unknown = set(cameras) - set(CAMERAS)
        if unknown:
            raise UsageError("E001", f"the table-top scene has cameras top and side, not {', '.join(unknown)}")
        self._mj = _mujoco()
        self._data = self._mj.MjData(_model())
        self._cameras, self._size, self._max_steps = tuple(cameras), size, max_steps
        self._renderer: Any = None
        self.start: Start | None = None
        seen: dict[str, spaces.Space[Any]] = {"agent_pos": spaces.Box(-np.inf, np.inf, (STATE,), np.float32)}
        if cameras:
            image = spaces.Box(0, 255, (size, size, 3), np.uint8)
            seen["pixels"] = spaces.Dict(dict.fromkeys(cameras, image))
        self.observation_space = spaces.Dict(seen)
        self.action_space = spaces.Box(-LIMITS, LIMITS, dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """See `gymnasium.Env` and the class."""
        super().reset(seed=seed)
        given = (options or {}).get("initial_state")
        self.start = draw_start(self.np_random) if given is None else Start.of(given)
        self.verb, self.block = VERBS[self.start.task // 3], self.start.task % 3
        data, state = self._data, self.start.state.astype(np.float64)
        self._mj.mj_resetData(_model(), data)
        data.qpos[:3] = state[6:9]
        data.qpos[4:6] = FINGER_OPEN
        for number in range(3):
            half = state[9 + number] / 2
            place = (*state[2 * number : 2 * number + 2], BLOCK_HEIGHT)
            data.qpos[6 + 7 * number : 13 + 7 * number] = (*place, np.cos(half), 0, 0, np.sin(half))
        data.ctrl[:] = data.qpos[:6]
        self._mj.mj_forward(_model(), data)
        self.steps, self._gripper, self._began = 0, 1.0, float(state[2 * self.block])
        return self._observe(), self._info(success=False)

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env`. Actions beyond `LIMITS` are clipped, as a controller does.

        Raises:
            ValueError: an action is not finite, which a malformed chunk is.
        """
        if not np.isfinite(action).all():
            raise ValueError("the action is not finite")
        clipped = np.clip(action, -LIMITS, LIMITS).astype(np.float64)
        data = self._data
        data.ctrl[:3] = data.qpos[:3] + clipped[:3]
        data.ctrl[3] = data.qpos[3] + clipped[5]
        if abs(clipped[6]) > _GRIPPER_HOLDS:
            self._gripper = float(np.sign(clipped[6]))
        data.ctrl[4:6] = FINGER_OPEN if self._gripper > 0 else FINGER_CLOSED
        self._mj.mj_step(_model(), data, _SUBSTEPS)
        self.steps += 1
        success = self._solved()
        return self._observe(), float(success), success, self.steps >= self._max_steps, self._info(success=success)

    def render(self) -> NDArray[np.uint8]:
        """The top camera, ``(size, size, 3)``."""
        return self.image("top")

    def image(self, camera: str) -> NDArray[np.uint8]:
        """What a camera sees, ``(size, size, 3)``.

        Raises:
            UsageError: E006, the machine has no way to render.
        """
        self._renderer = self._renderer or _renderer(self._size)
        self._renderer.update_scene(self._data, camera=camera)
        image: NDArray[np.uint8] = self._renderer.render().copy()
        return image

    def close(self) -> None:
        """Give the renderer's memory back, unless other scenes draw with it."""
        self._renderer = None

    @property
    def task(self) -> str:
        """The prompt of this episode."""
        return "" if self.start is None else self.start.prompt

    @property
    def hand(self) -> Array:
        """Where the hand is, ``(3,)`` m."""
        return np.asarray(self._data.qpos[:3] + _JOINTS_ZERO)

    def place(self, block: int) -> Array:
        """Where a block is, ``(3,)`` m; a view."""
        place: Array = self._data.qpos[6 + 7 * block : 9 + 7 * block]
        return place

    @property
    def target(self) -> NDArray[np.float32]:
        """Where the block is that the prompt names, ``(3,)`` m: what a robot would have to see."""
        return self.place(self.block).astype(np.float32)

    @property
    def holding(self) -> bool:
        """Whether the fingers are closed on something, or as far as they go."""
        return bool(self._data.ctrl[4] <= 0 and self._data.qpos[4] + self._data.qpos[5] <= -0.004)

    def _solved(self) -> bool:
        place = self.place(self.block)
        if self.verb == "reach":
            return float(np.linalg.norm(self.hand - place - (0, 0, _REACH))) < _REACHED
        if self.verb == "push":
            return float(place[0]) - self._began > _PUSHED
        return float(place[2]) > _LIFTED

    def _observe(self) -> Observation:
        out = np.empty(STATE, dtype=np.float32)
        position = self._data.qpos
        out[:6] = position[:6]
        hand = self.hand
        for number in range(3):
            place = self.place(number)
            out[6 + 4 * number : 9 + 4 * number] = place - hand
            out[9 + 4 * number] = place[2]
        out[18] = self._gripper
        if not self._cameras:
            return {"agent_pos": out}
        return {"agent_pos": out, "pixels": {camera: self.image(camera) for camera in self._cameras}}

    def _info(self, *, success: bool) -> dict[str, Any]:
        return {"is_success": success, "task": self.task, "elapsed_steps": self.steps}


def make(name: str, cameras: Sequence[str]) -> Tabletop:
    """For `training_adapters.envs.table`; the scene has one name."""
    if name:
        raise UsageError("E001", f"tabletop has no {name!r}; its nine prompts are in its starts")
    return Tabletop(cameras=cameras)
