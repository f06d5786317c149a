"""Reads CALVIN datasets (mees/calvin): a folder with one npz file a frame. See `converters.calvin.layout`.

| in a frame | here |
| --- | --- |
| ``rgb_<camera>`` (H, W, 3) uint8 | ``observation.images.<camera>`` |
| ``depth_<camera>`` (H, W) float32 | ``observation.depth.<camera>`` (H, W, 1), metres |
| ``robot_obs`` (15,) | ``observation.state`` |
| ``scene_obs`` (24,) | ``observation.scene`` |
| ``rel_actions`` (7,) | ``action``, or ``action.relative`` |
| ``actions`` (7,) | ``action.absolute``, or ``action`` |
| anything else of numbers | ``observation.<name>`` |

Images are read when somebody looks at them. ``rel_actions`` is ``actions`` less ``robot_obs`` of the same frame,
clipped to 0.02 m and 0.05 rad an axis and divided by that (``calvin_env/utils/utils.py``, ``to_relative_action``);
angles are those of PyBullet. CALVIN records at 30 Hz and says so nowhere in the data.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from converters.calvin import layout
from converters.calvin.frames import Frame, Picture, read_frame
from converters.calvin.layout import Window
from vla_data import options as checks
from vla_data.actions import Controller, Convention
from vla_data.actions.limits import check_numbers
from vla_data.core import Array, Episode, EpisodeMeta, EpisodeRef, Feature, Json, Schema
from vla_data.core.base import RootedSource, refresh
from vla_data.core.wanted import Unwanted
from vla_data.errors import DataError, UsageError
from vla_data.media.frames import Frames
from vla_data.safety.files import hash_regular, state_of
from vla_data.safety.text import instruction, show

_IMAGE: Final = "rgb_"
_DEPTH: Final = "depth_"
_NAMES: Final = {"robot_obs": "observation.state", "scene_obs": "observation.scene"}
_ACTIONS: Final = {"relative": "rel_actions", "absolute": "actions"}
_POSE: Final = {"translation": (0, 1, 2), "rotation": (3, 4, 5), "gripper": (6,)}
_ABSOLUTE: Final = Convention(
    layout=_POSE,
    kind="absolute",
    frame="world",
    translation_unit="m",
    rotation_unit="rad",
    rotation="euler_extrinsic_xyz",
    gripper_control="direction",
    gripper_open=1.0,
    gripper_closed=-1.0,
    control_rate=30.0,
)
_RELATIVE: Final = replace(
    _ABSOLUTE,
    kind="delta",
    reference="current_state",
    translation_unit="controller",
    rotation_unit="controller",
    rotation_delta="angle_difference",
    controller=Controller(translation_scale=0.02, rotation_scale=0.05),
)
_ACTION: Final[Mapping[str, Json]] = {"relative": _RELATIVE.to_json(), "absolute": _ABSOLUTE.to_json()}
_STATE: Final = Convention(
    layout={**_POSE, "joints": tuple(range(7, 14))},
    size=15,  # the last one is the gripper's command, which no part of a pose is
    kind="absolute",
    frame="world",
    translation_unit="m",
    rotation_unit="rad",
    joint_unit="rad",
    rotation="euler_extrinsic_xyz",
    gripper_control="position",
    gripper_open=0.08,  # metres: the two fingers of calvin_env's Panda, of 0 to 0.04 each
    gripper_closed=0.0,
).to_json()


@dataclass(frozen=True, kw_only=True)
class CalvinSource(RootedSource):
    """Reads a CALVIN dataset, or one split of it.

    Attributes:
        root: the folder.
        episodes_of: "language": the windows that have an instruction; "play": the recordings, whole; "auto":
            language where a split has it.
        action: which of the two actions is ``action``: "relative", which CALVIN's policies predict, or "absolute".
        fps: steps per second.
        task: the instruction of episodes that have none.
        allow_empty_instruction: keep episodes without one.
        action_limit: largest absolute action value that a robot can mean.
        leave_out: arrays of the frames that are not read, such as ``depth_*``.
        unwanted: features that the steps of a job drop before anybody looks at them.
    """

    root: Path = field(repr=False)
    episodes_of: Literal["auto", "language", "play"] = "auto"
    action: Literal["relative", "absolute"] = "relative"
    fps: float = 30.0
    task: str | None = None
    allow_empty_instruction: bool = False
    action_limit: float = 100.0
    leave_out: tuple[str, ...] = ()
    unwanted: Unwanted = field(default=Unwanted(), repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        checks.one_of("episodes_of", self.episodes_of, ("auto", "language", "play"))
        checks.one_of("action", self.action, ("relative", "absolute"))
        object.__setattr__(self, "fps", checks.number("fps", self.fps, low=1e-3, high=1e6))
        checks.some_text("task", self.task)
        checks.flag("allow_empty_instruction", self.allow_empty_instruction)
        object.__setattr__(self, "action_limit", checks.number("action_limit", self.action_limit, low=0))
        object.__setattr__(self, "leave_out", checks.texts("leave_out", self.leave_out))

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def without(self, unwanted: Unwanted) -> CalvinSource:
        """See `BaseSource`."""
        return replace(self, unwanted=unwanted)

    # -- what there is ------------------------------------------------------------------------------------------

    @functools.cached_property
    def _windows(self) -> Mapping[str, Window]:
        out: dict[str, Window] = {}
        for folder in layout.folders(self.root):
            with_text = layout.has_language(self.root, folder)
            if self.episodes_of == "language" and not with_text:
                raise UsageError("E003", f"{show(folder or self.root)} has no {layout.ANNOTATIONS}")
            chosen = layout.language if with_text and self.episodes_of != "play" else layout.play
            out |= {window.id: window for window in chosen(self.root, folder)}
        return out

    @functools.cached_property
    def _digits(self) -> Mapping[str, int]:
        return {folder: layout.digits(self.root, folder) for folder in layout.folders(self.root)}

    @functools.cached_property
    def _scenes(self) -> Mapping[str, Sequence[tuple[int, int, str]]]:
        return {folder: layout.scenes(self.root, folder) for folder in layout.folders(self.root)}

    def episodes(self) -> Sequence[EpisodeRef]:
        """Every episode, in the order of the split's file. Sizes are the first frame's, times their number."""
        names = [
            f"{folder}/{name}".lstrip("/")
            for folder in layout.folders(self.root)
            for name in (*_FACTS, layout.language_file(self.root, folder) or layout.ANNOTATIONS)
        ]
        state = tuple(state_of(self.root / name) for name in names)
        refresh(self, state, ("_windows", "_digits", "_scenes"))
        size: dict[str, int] = {}
        out = []
        for window in self._windows.values():
            if window.folder not in size:
                path = self._path(window.folder, window.first)
                size[window.folder] = path.stat().st_size if path.is_file() else 0
            out.append(EpisodeRef(window.id, size[window.folder] * len(window)))
        return out

    def _window(self, ref: EpisodeRef) -> Window:
        try:
            return self._windows[ref.id]
        except KeyError:
            raise UsageError("E007", f"the dataset has no episode {show(ref.id)}") from None

    def _path(self, folder: str, number: int) -> Path:
        return self.root / folder / f"episode_{number:0{self._digits[folder]}d}.npz"

    def _paths(self, window: Window) -> list[Path]:
        if len(window) > layout.MAX_FRAMES:
            raise DataError("E107", f"the episode has {len(window):,} frames, more than {layout.MAX_FRAMES:,}")
        return [self._path(window.folder, number) for number in range(window.first, window.last + 1)]

    def states(self, refs: Sequence[EpisodeRef]) -> Mapping[str, object]:
        """See `BaseSource`: of the first and the last frame of each."""
        out = {}
        for ref in refs:
            window = self._window(ref)
            ends = (window.first, window.last)
            out[ref.id] = tuple(state_of(self._path(window.folder, number)) for number in ends)
        return out

    def fingerprint(self, ref: EpisodeRef) -> str:
        """SHA-256 over the digests of the frames, and what the split's files say of the episode."""
        window = self._window(ref)
        return self._digest(window, [hash_regular(path, root=self.root) for path in self._paths(window)])

    def _digest(self, window: Window, digests: Sequence[str]) -> str:
        told = f"{window.id}\0{window.first}\0{window.last}\0{window.task}\0{window.kind}"
        return hashlib.sha256("\n".join([told, *digests]).encode("utf-8", "surrogatepass")).hexdigest()

    # -- one episode --------------------------------------------------------------------------------------------

    def read(self, ref: EpisodeRef) -> Episode:
        """Read one episode. See `vla_data.core.Source`.

        Raises:
            DataError: E133 for a frame that is missing, E203 for one that is unlike the first, E206 without
                actions, E211 or E212 for an instruction, and what reading npz files raises.
        """
        window = self._window(ref)
        task = instruction(window.task or self.task or "", allow_empty=self.allow_empty_instruction, lines=True)
        paths = self._paths(window)
        arrays: dict[str, list[Array]] = {}
        pictures: dict[str, list[Picture]] = {}
        digests = []
        first: Frame | None = None
        for path in paths:
            frame = read_frame(path, root=self.root, wanted=self._is_wanted, first=first)
            first = first or frame
            digests.append(frame.sha256)
            for name, value in frame.numbers.items():
                arrays.setdefault(name, []).append(value)
            for name, picture in frame.pictures.items():
                pictures.setdefault(name, []).append(picture)
        assert first is not None
        found = {self._name(name, picture=False): np.stack(values) for name, values in arrays.items()}
        if "action" not in found and "action" not in self.unwanted:
            raise DataError("E206", f"the frames have no {_ACTIONS[self.action]}, which is the action")
        if "action" in found:
            check_numbers("action", found["action"], self.action_limit)
        for name in [name for name in found if name.startswith("observation.depth.") and found[name].ndim == 3]:
            found[name] = found[name][..., None]
        frames = {
            self._name(name, picture=True): Frames(tuple(items), *first.sizes[name])
            for name, items in pictures.items()
        }
        facts: dict[str, Json] = {"task": window.kind} if window.kind is not None else {}
        return Episode(
            id=window.id,
            arrays=found,
            frames=frames,
            task=task,
            index=np.arange(len(paths)),
            meta=EpisodeMeta(
                {
                    "source": "calvin",
                    "source_length": len(paths),
                    "source_sha256": self._digest(window, digests),
                    **({"episode_metadata": facts} if facts else {}),
                    **self._facts(window),
                }
            ),
            notes=tuple(f"left_out:{self._unwanted_name(name)}" for name in first.left_out),
        )

    def _facts(self, window: Window) -> dict[str, Json]:
        split = layout.split_of(self.root, window.folder)
        scene = next((name for a, b, name in self._scenes[window.folder] if a <= window.first <= b), None)
        known = {"split": split, "scene": scene}
        return {key: value for key, value in known.items() if value is not None}

    def _is_wanted(self, name: str) -> bool:
        chosen = not any(fnmatchcase(name, pattern) for pattern in self.leave_out)
        names = {self._name(name, picture=picture) for picture in (False, True)}
        return chosen and not any(name in self.unwanted for name in names)

    def _unwanted_name(self, key: str) -> str:
        """What a user calls an array that is not wanted: the feature, or its own name in ``leave_out``."""
        names = (self._name(key, picture=picture) for picture in (True, False))
        return next((name for name in names if name in self.unwanted), key)

    def _name(self, key: str, *, picture: bool) -> str:
        """What an array of a frame is called here."""
        other = "absolute" if self.action == "relative" else "relative"
        if key == _ACTIONS[self.action]:
            return "action"
        if key == _ACTIONS[other]:
            return f"action.{other}"
        if key in _NAMES:
            return _NAMES[key]
        if picture and key.startswith(_IMAGE):
            return f"observation.images.{key.removeprefix(_IMAGE)}"
        if key.startswith(_DEPTH):
            return f"observation.depth.{key.removeprefix(_DEPTH)}"
        return f"observation.{key}"

    def schema(self, episode: Episode) -> Schema:
        """The features, with CALVIN's conventions for arrays of CALVIN's sizes."""
        features: dict[str, Feature] = {}
        for name, frames in episode.frames.items():
            axes = ("height", "width", "channels")
            features[name] = Feature(dtype="image", shape=(frames.height, frames.width, 3), names=axes)
        for name, array in episode.arrays.items():
            shape = array.shape[1:] or (1,)
            features[name] = Feature(dtype=str(array.dtype), shape=shape, convention=self._convention(name, shape))
        return Schema(features=features, fps=self.fps)

    def _convention(self, name: str, shape: tuple[int, ...]) -> Mapping[str, Json]:
        other = "absolute" if self.action == "relative" else "relative"
        known: dict[str, tuple[tuple[int, ...], Mapping[str, Json]]] = {
            "action": ((7,), _ACTION[self.action]),
            f"action.{other}": ((7,), _ACTION[other]),
            "observation.state": ((15,), _STATE),
        }
        wanted, convention = known.get(name, ((), {}))
        if name.startswith("observation.depth.") and len(shape) == 3 and shape[2] == 1:
            return {"depth_unit": "m"}
        return convention if shape == wanted else {}


_FACTS: Final[Collection[str]] = (layout.ENDS, layout.SCENES)
