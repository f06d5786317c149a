"""Seeded rollouts in RL4VLA's two shapes, with frames that compress like a camera's.

A frame of 480x640 is about 80 KB as JPEG q95 4:2:0: a smooth wall, a grained table, a gripper that carries an
object, and mild sensor noise. Episode `i` depends on `(seed, i)` alone, never on how many are written.

    write_rollouts(folder, episodes=4)                # motion planner: T PIL frames, info before the action
    write_rollouts(folder, episodes=4, layout="ppo")  # PPO: (T+1, H, W, 3) array, info after the action
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Layout = Literal["planner", "ppo"]
Pixels = npt.NDArray[np.uint8]

SUCCESS_TAIL = 12
"""Steps at the end after which the task is solved; `planner` shows one fewer, as its info comes before."""

_SMALL_SHARE = 0.25
_OPEN, _CLOSED = 1.0, -1.0
_NOISE_MARGIN = 32
_INSTRUCTIONS = (
    "put the carrot on the plate",
    "put the apple on the yellow plate",
    "put the eggplant on the wooden plate",
    "put the tomato on the plate",
)


def write_rollouts(
    folder: str | Path,
    *,
    episodes: int,
    size: tuple[int, int] = (480, 640),
    layout: Layout = "planner",
    compressed: bool = True,
    seed: int = 0,
    steps: int = 80,
    workers: int = 1,
) -> list[Path]:
    """Write `episodes` npz files of `steps` actions and return their paths, in the order of their names.

    `size` is (height, width). More `workers` write the same bytes sooner: deflating is nearly all the work.
    """
    if layout not in ("planner", "ppo"):
        raise ValueError(f"layout is {layout!r}; expected 'planner' or 'ppo'")
    if steps < 2 or min(size) < 16:
        raise ValueError(f"steps={steps}, size={size}; expected at least 2 steps and 16 pixels a side")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    write = partial(_write_one, target, size=size, layout=layout, compressed=compressed, seed=seed, steps=steps)
    if workers == 1:
        return sorted(map(write, range(episodes)))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return sorted(pool.map(write, range(episodes)))


def images_per_episode(layout: Layout, steps: int) -> int:
    """How many images a file holds: PPO rollouts keep the one after the last action."""
    return steps if layout == "planner" else steps + 1


def _write_one(
    folder: Path,
    index: int,
    *,
    size: tuple[int, int],
    layout: Layout,
    compressed: bool,
    seed: int,
    steps: int,
) -> Path:
    rng = np.random.default_rng([seed, index])
    actions, carrying = make_actions(rng, steps)
    frames = render(rng, actions, carrying, size=size, count=images_per_episode(layout, steps))
    solved = np.arange(steps) >= steps - SUCCESS_TAIL
    solved[steps // 4 : steps // 4 + 3] = True  # too short a streak to end the episode
    instruction = _INSTRUCTIONS[int(rng.integers(len(_INSTRUCTIONS)))]
    content: dict[str, Any]
    if layout == "planner":
        before = np.concatenate([[False], solved[:-1]])
        infos = np.empty(steps, dtype=object)
        for t in range(steps):
            # The real writer shares one counter between all steps, so every row shows its last value.
            values = _info(rng, steps, bool(carrying[t]), bool(before[t]))
            infos[t] = {key: np.asarray([value]) for key, value in values.items()}
        content = {
            "is_image_encode": False,
            "image": [Image.fromarray(frame) for frame in frames],
            "instruction": np.asarray([instruction]),
            "action": actions,
            "info": infos,
        }
        path = folder / f"success_proc_0_numid_{index}_epsid_{index}.npz"
    else:
        content = {
            "image": np.stack(list(frames)),
            "action": actions,
            "info": [_info(rng, t + 1, bool(carrying[t]), bool(solved[t])) for t in range(steps)],
            "instruction": instruction,
        }
        path = folder / f"episode_{index:05d}.npz"
    record = np.empty((), dtype=object)
    record[()] = content
    (np.savez_compressed if compressed else np.savez)(path, record)
    return path


def _info(rng: np.random.Generator, elapsed: int, grasped: bool, success: bool) -> dict[str, Any]:
    return {
        "elapsed_steps": elapsed,
        "is_src_obj_grasped": grasped,
        "consecutive_grasp": grasped,
        "src_on_target": success,
        "gripper_carrot_dist": float(np.float32(rng.uniform(0.01, 0.3))),
        "success": success,
    }


def make_actions(rng: np.random.Generator, steps: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """`(steps, 7)` metres, radians and gripper, and whether the object is held in each step.

    A quarter are below 0.01 m and 0.06 rad; the gripper closes and opens once, standing still.
    """
    small = rng.random(steps) < _SMALL_SHARE
    # A streak must survive the filter whatever the seed: of the last steps exactly a quarter are small.
    tail = min(SUCCESS_TAIL, steps)
    small[-tail:] = False
    small[steps - tail + rng.permutation(tail)[: tail // 4]] = True
    direction = rng.normal(size=(steps, 2, 3))
    direction /= np.linalg.norm(direction, axis=2, keepdims=True)
    metres = np.where(small, rng.uniform(0.0, 0.009, steps), rng.uniform(0.012, 0.04, steps))
    radians = np.where(small, rng.uniform(0.0, 0.05, steps), rng.uniform(0.0, 0.15, steps))
    actions = np.zeros((steps, 7), dtype=np.float32)
    actions[:, :3] = direction[:, 0] * metres[:, None]
    actions[:, 3:6] = direction[:, 1] * radians[:, None]
    close, release = int(steps * 0.4), int(steps * 0.75)
    carrying = (np.arange(steps) >= close) & (np.arange(steps) < release)
    actions[:, 6] = np.where(carrying, _CLOSED, _OPEN)
    actions[[0, close, release], :6] = 0.0
    return actions, carrying


@dataclass(frozen=True, slots=True)
class _Patch:
    """A small picture with soft edges: colour `(h, w, 3)` and cover `(h, w, 1)` in 0..1."""

    colour: npt.NDArray[np.float32]
    cover: npt.NDArray[np.float32]

    def paste(self, scene: npt.NDArray[np.int16], centre_y: float, centre_x: float) -> None:
        """Draw into `scene` with the centre kept inside, clipping what hangs over an edge."""
        height, width = self.cover.shape[:2]
        top = round(centre_y * scene.shape[0] - height / 2)
        left = round(centre_x * scene.shape[1] - width / 2)
        y0, x0 = max(0, top), max(0, left)
        y1, x1 = min(scene.shape[0], top + height), min(scene.shape[1], left + width)
        inside = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        under = scene[y0:y1, x0:x1]
        under[...] = under + self.cover[inside] * (self.colour[inside] - under)


def render(
    rng: np.random.Generator,
    actions: npt.NDArray[np.float32],
    carrying: npt.NDArray[np.bool_],
    *,
    size: tuple[int, int],
    count: int,
) -> Iterator[Pixels]:
    """`count` frames `(H, W, 3)` of one scene: still background, gripper and object moving with `actions`."""
    background = _background(rng, size)
    noise = _sensor_noise(rng, (size[0] + _NOISE_MARGIN, size[1] + _NOISE_MARGIN))
    gripper, carrot = _gripper(rng, size), _carrot(rng, size)
    path = np.cumsum(np.vstack([np.zeros(2), actions[:, :2]]), axis=0) * 1.5
    path = np.clip(path + rng.uniform(0.35, 0.65, 2), 0.1, 0.9)
    resting = path[int(np.argmax(carrying))] if carrying.any() else path[-1]
    for t in range(count):
        scene = background.copy()
        if carrying[min(t, len(carrying) - 1)]:
            resting = path[t]
        carrot.paste(scene, resting[0] + 0.06, resting[1])
        gripper.paste(scene, path[t][0], path[t][1])
        y, x = rng.integers(_NOISE_MARGIN, size=2)
        scene += noise[y : y + size[0], x : x + size[1]]
        yield np.clip(scene, 0, 255, out=scene).astype(np.uint8)


def _background(rng: np.random.Generator, size: tuple[int, int]) -> npt.NDArray[np.int16]:
    height, width = size
    down = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None, None]
    wall = rng.uniform(150, 200, 3).astype(np.float32) - 40 * down + 12 * _cloud(rng, size, (3, 4))[..., None]
    grain = 9 * _cloud(rng, size, (max(2, height // 2), max(2, width // 40)))
    grain += 7 * _cloud(rng, size, (max(2, height // 6), max(2, width // 8)))
    grain += 10 * _cloud(rng, size, (5, 6))
    table = np.array([150, 112, 80], np.float32) * (0.75 + 0.35 * down) + grain[..., None]
    edge = np.clip((down - rng.uniform(0.3, 0.42)) * height / 3, 0, 1)
    return np.clip(wall + edge * (table - wall), 0, 255).astype(np.int16)


def _cloud(rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Noise of unit spread whose features are about `size / cells` pixels."""
    coarse = Image.fromarray(rng.normal(size=cells).astype(np.float32))
    return np.asarray(coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _sensor_noise(rng: np.random.Generator, size: tuple[int, int]) -> npt.NDArray[np.int16]:
    """Mostly brightness, a little colour, as a demosaiced sensor has it."""
    brightness = rng.normal(0.0, 1.8, (*size, 1))
    return np.rint(brightness + rng.normal(0.0, 0.5, (*size, 3))).astype(np.int16)


def _ellipse(height: int, width: int) -> npt.NDArray[np.float32]:
    """Squared distance from the centre, 1 on the rim."""
    y, x = np.linspace(-1.1, 1.1, height)[:, None], np.linspace(-1.1, 1.1, width)
    return (y * y + x * x).astype(np.float32)


def _carrot(rng: np.random.Generator, size: tuple[int, int]) -> _Patch:
    radius = _ellipse(max(4, size[0] // 9), max(4, size[1] // 6))
    colour = np.array([225, 110, 45], np.float32) + rng.uniform(-25, 25, 3).astype(np.float32)
    shaded = colour * (1.1 - 0.5 * radius[..., None])
    return _Patch(shaded, np.clip((1 - radius) * 6, 0, 1)[..., None])


def _gripper(rng: np.random.Generator, size: tuple[int, int]) -> _Patch:
    height, width = max(6, size[0] // 4), max(6, size[1] // 6)
    down, across = np.linspace(0, 1, height)[:, None], np.abs(np.linspace(-1, 1, width))
    palm = (down < 0.55) & (across < 0.9)
    finger = (down >= 0.55) & (across > 0.5) & (across < 0.85)
    colour = (60 + 40 * np.cos(3 * across) + 20 * down)[..., None] * rng.uniform(0.85, 1.1, 3)
    return _Patch(colour.astype(np.float32), (palm | finger).astype(np.float32)[..., None])


def main() -> None:
    parser = argparse.ArgumentParser(description="Write seeded RL4VLA-style rollouts.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--layout", choices=("planner", "ppo"), default="planner")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--uncompressed", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    paths = write_rollouts(
        options.folder,
        episodes=options.episodes,
        size=(options.size[0], options.size[1]),
        layout=options.layout,
        compressed=not options.uncompressed,
        seed=options.seed,
        steps=options.steps,
        workers=options.workers,
    )
    print(f"{len(paths)} files, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
