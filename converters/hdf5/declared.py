"""What an HDF5 file does not say of a demo's meaning: told by a rule, declared, or missing, all of it at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from converters.hdf5 import instruction
from converters.hdf5.dialects.base import Demo, Found
from converters.hdf5.dialects.odd import Odd
from vla_data.errors import DataError
from vla_data.safety import text

_TIME: Final = "whether observations are of before or after"
_ORIENTATION: Final = "whether rows of images go up or down"
_CHANNELS: Final = "whether images are RGB or BGR"
_VALUES: Final = {
    "--observation-time": "before|after",
    "--image-orientation": "none|vflip|rot180",
    "--channel-order": "rgb|bgr",
    "--fps": "NUMBER",
    "--task": "TEXT",
}
"""How an option is typed."""


class Options(instruction.Options, Protocol):
    """The options of `converters.hdf5.source.Hdf5Source` that matter here."""

    @property
    def observation_time(self) -> str: ...  # noqa: D102 - see Hdf5Source
    @property
    def image_orientation(self) -> str: ...  # noqa: D102
    @property
    def channel_order(self) -> str: ...  # noqa: D102
    @property
    def fps(self) -> float | None: ...  # noqa: D102
    @property
    def next_obs(self) -> bool: ...  # noqa: D102
    @property
    def action_limit(self) -> float: ...  # noqa: D102
    @property
    def allow_empty_instruction(self) -> bool: ...  # noqa: D102
    @property
    def unneeded(self) -> Collection[str]: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The facts of a demo, each with its rule.

    Attributes:
        time: of observations, "before" or "after".
        orientation: what makes images upright.
        channels: of stored pixels.
        file_channels: of image files.
        task: the instruction.
        fps: control rate; 0 where nobody says it and nobody needs it.
        unsaid: options of facts that nobody says and nobody needs.
    """

    time: Found
    orientation: Found
    channels: Found
    file_channels: Found
    task: Found
    fps: float
    unsaid: tuple[str, ...] = ()


def told(demo: Demo, options: Options, file: str, odd: list[Odd], *, pixels: bool, files: bool) -> Told:
    """The facts of a demo, of which those that are missing are nothing in particular.

    Args:
        demo: what the file has.
        options: what was declared.
        file: name of the file.
        odd: takes what is missing: E231 for what is neither told nor declared, E211 where that is the instruction
            alone.
        pixels: whether there are images as pixels.
        files: whether there are images as JPEG or PNG files.

    Raises:
        DataError: E221 for a declared rate that contradicts the file, E212 for an instruction that is no text.
    """
    asked: list[tuple[str, str]] = []
    unsaid: dict[str, None] = {}
    nothing = Found("none", "")

    def of(option: str, declared: str, found: Found | None, what: str) -> Found:
        flag = f"--{option.replace('_', '-')}"
        if declared != "auto":
            return Found(declared, "declared")
        if found is None and option in options.unneeded:
            unsaid[flag] = None
        elif found is None and (what, flag) not in asked:
            asked.append((f"{what} ({demo.doubts[option]})" if option in demo.doubts else what, flag))
        return found or nothing

    time = of("observation_time", options.observation_time, demo.time, _TIME)
    orientation, channels, of_files = nothing, Found("rgb", ""), Found("rgb", "")
    if pixels or files:
        orientation = of("image_orientation", options.image_orientation, demo.orientation, _ORIENTATION)
    if files:
        of_files = of("channel_order", options.channel_order, demo.file_channels, _CHANNELS)
    if pixels:
        known = demo.channels if files else None
        order = "auto" if known is not None else options.channel_order  # it is declared of what is not known
        channels = of("channel_order", order, demo.channels, _CHANNELS)
    rate = _rate(demo.fps, options.fps)
    if rate is None and "fps" not in options.unneeded:
        asked.append(("its control rate", "--fps"))
    task = instruction.find(demo, options, file)
    if task is None and options.allow_empty_instruction:
        task = Found("", "none")
    if task is None and not asked:
        texts = instruction.candidates(demo)
        message = f"the file has no one instruction by a name that is known; declare it with --task TEXT{texts}"
        odd.append(("E211", message, ""))
    elif task is None:
        asked.append((f"an instruction{instruction.candidates(demo)}", "--task"))
    if asked:
        odd.append(("E231", _missing(asked), ""))
    if task is not None:
        words = text.instruction(task.value, allow_empty=options.allow_empty_instruction, lines=True)
        task = Found(words, task.rule)
    return Told(
        time=time,
        orientation=orientation,
        channels=channels,
        file_channels=of_files,
        task=task or nothing,
        fps=rate or 0.0,
        unsaid=tuple(unsaid),
    )


def _missing(asked: Sequence[tuple[str, str]]) -> str:
    whats, flags = [what for what, _ in asked], [f"{flag} {_VALUES[flag]}" for _, flag in asked]
    if len(asked) == 1:
        return f"the file does not tell {whats[0]}; declare it with {flags[0]}"
    return f"the file does not tell {', '.join(whats[:-1])} and {whats[-1]}; declare them with {' '.join(flags)}"


def _rate(found: float | None, declared: float | None) -> float | None:
    if found is not None and declared is not None and found != declared:
        raise DataError("E221", f"the file says {found:g} steps a second, not {declared:g}")
    return declared if declared is not None else found
