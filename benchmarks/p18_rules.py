"""What the rules cost that tell what sound data mean: their share of the time that reading takes.

    python -m benchmarks.p18_rules [--steps 80] [--repeats 5]

Demonstrations in LIBERO's HDF5 layout, and the same as LeRobot (PNG) and RLDS datasets, are read whole: every
number, and every image decoded. The functions that decide (which moment, which way up, which instruction, whether
actions are poses, whether numbers are pictures, whether values are what is declared) are timed while they run.
Leaves with 1 where a share is over 5 %.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import h5py

import vla_data as vd
from benchmarks import harness
from benchmarks.demos import FPS, write_demos

MOST: Final = 0.05
RULES: Final[Mapping[str, tuple[str, ...]]] = {
    "hdf5": (
        "converters.hdf5.dialects.libero:time_by_states",
        "converters.hdf5.dialects.libero:_time_of_file",
        "converters.hdf5.declared:told",
        "converters.hdf5.episode:each_step",
        "converters.hdf5.episode:are_poses",
        "converters.hdf5.episode:looks_like_pictures",
        "converters.hdf5.pictures:file_of",
    ),
    "lerobot": (
        "converters.lerobot.columns:check_time",
        "converters.lerobot.values:as_declared",
        "converters.lerobot.images:is_pixels",
        "converters.lerobot.images:is_image",
        "vla_data.media.camera:orientation_of",
    ),
    "rlds": (
        "converters.rlds.values:is_file",
        "converters.rlds.instruction:texts_of",
        "converters.rlds.values:positions",
        "vla_data.media.camera:orientation_of",
    ),
}
"""Format -> module and function of each rule."""


class Clock:
    """Seconds within functions that are being watched, each moment once."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose time is counted."""

        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            self._depth += 1
            begin = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += time.perf_counter() - begin

        return timed


@contextlib.contextmanager
def watching(names: Sequence[str], clock: Clock) -> Iterator[None]:
    """Count the time of these functions."""
    with contextlib.ExitStack() as stack:
        for name in names:
            module_name, _, function = name.partition(":")
            module = importlib.import_module(module_name)
            kept = getattr(module, function)
            setattr(module, function, clock.watched(kept))
            stack.callback(setattr, module, function, kept)
        yield


def read(address: str, options: Mapping[str, Any]) -> int:
    """Read every episode and decode every image; how many images."""
    source = vd.open_source(address, **options)
    count = 0
    for ref in source.episodes():
        episode = source.read(ref)
        for frames in episode.frames.values():
            for at in range(len(frames)):
                frames.pixels(at)
                count += 1
    return count


def measure(sources: Mapping[str, tuple[str, Mapping[str, Any]]], repeats: int) -> list[dict[str, Any]]:
    """A row a format: seconds of reading, and the share of the rules, as medians."""
    rows = []
    for name, (address, options) in sources.items():
        times, shares, count = [], [], read(address, options)  # once for what is imported and cached
        for _ in range(repeats):
            clock = Clock()
            with watching(RULES[name], clock):
                begin = time.perf_counter()
                count = read(address, options)
                times.append(time.perf_counter() - begin)
            shares.append(clock.seconds / times[-1])
        rows.append(
            {"format": name, "images": count, "s": statistics.median(times), "rules": statistics.median(shares)}
        )
    return rows


def _sound(path: Path) -> None:
    """Put the joints that were seen into the simulator's states, where they tell the time."""
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            demo["states"][:, 1:8] = demo["obs/joint_states"][:]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vla-data-p17-") as top:
        root = Path(top)
        write_demos(root / "hdf5", files=2, demos=2, size=128, steps=options.steps)
        for path in (root / "hdf5").iterdir():
            _sound(path)
        told = {"layout": "libero", "fps": FPS, "observation_time": "before", "image_orientation": "vflip"}
        demos = vd.open_source(f"hdf5:{root / 'hdf5'}", **told)
        for name in ("lerobot", "rlds"):
            vd.run(demos, (), vd.open_sink(root / name, format=name, images="png"), workers=1)
        sources = {"hdf5": (f"hdf5:{root / 'hdf5'}", told)}
        sources |= {name: (f"{name}:{root / name}", {}) for name in ("lerobot", "rlds")}
        rows = measure(sources, options.repeats)
    print(harness.table([{**row, "rules": f"{row['rules']:.1%}"} for row in rows]))
    if any(row["rules"] > MOST for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
