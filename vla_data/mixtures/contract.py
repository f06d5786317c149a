"""What every sample of a mixture looks like, whatever its dataset: the target that is declared once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from vla_data import options as checks
from vla_data.actions import Convention, preset
from vla_data.actions.convention import check_parts
from vla_data.core import Json
from vla_data.media.images import MAX_SIDE

STRATEGIES: Final = ("nearest", "linear")
RESAMPLES: Final = ("commands", "rows")
RESIZES: Final = ("pad", "stretch")
DELTAS: Final = ("none", "state", "previous")
MAX_DIM: Final = 4096
MAX_CHUNK: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The form of a sample.

    Attributes:
        cameras: names; a sample has each, zeros and marked as padding where its dataset has none.
        image_size: (height, width) of all images; None: as they are, which must be one size a camera.
        resize: ``pad`` keeps what is seen in proportion, in the middle of black; ``stretch`` does not.
        state_dim: numbers of a state, padded with zeros at the end; 0: no state.
        action_dim: numbers of an action, likewise; None: those of the widest dataset.
        chunk: actions of a sample, from its own step on.
        history: observations of a sample, the last of its own step; None: that one, without an axis of time.
        history_interval: steps from one of them to the next.
        action_freq: steps per second of chunks and histories; None: those of each dataset.
        resample: where a dataset has another rate. ``commands``: the episode is resampled first, so that what is
            commanded stays the same motion (`vla_data.steps.resample`). ``rows``: its rows are picked by time, as
            RECAP's loader does, which does not rescale what is commanded in a step.
        image_resample_strategy: of images between two rows: ``nearest`` or ``linear``.
        vector_resample_strategy: of numbers between two rows.
        convention: of actions; each dataset's are converted to it, at the rate of ``action_freq`` (`target`).
            None: they stay what they are.
        delta: what the actions of a chunk count from: ``none``, ``state`` (that of the sample's own step, for all
            of the chunk) or ``previous`` (the action before; the first of the chunk from the state).
        delta_mask: for the first elements of an action, whether `delta` concerns them; empty: all.
        delta_state: for the same elements, their places in the state; empty: the same places.
        extras: features to hand on as they are at the sample's own step, such as ``next.reward``; all datasets
            must have them.
    """

    cameras: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None
    resize: str = "pad"
    state_dim: int = 0
    action_dim: int | None = None
    chunk: int = 1
    history: int | None = None
    history_interval: int = 1
    action_freq: float | None = None
    resample: str = "commands"
    image_resample_strategy: str = "nearest"
    vector_resample_strategy: str = "nearest"
    convention: Convention | None = None
    delta: str = "none"
    delta_mask: tuple[bool, ...] = ()
    delta_state: tuple[int, ...] = ()
    extras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("cameras", "extras"):
            values = getattr(self, name)
            if not all(isinstance(value, str) and value for value in values) or len(set(values)) != len(values):
                raise ValueError(f"{name} is {values!r}, not different names")
            object.__setattr__(self, name, tuple(values))
        if self.image_size is not None:
            size = tuple(self.image_size)
            if len(size) != 2:
                raise ValueError(f"image_size is {size!r}, not height and width")
            height, width = (checks.whole("image_size", side, low=1, high=MAX_SIDE) for side in size)
            object.__setattr__(self, "image_size", (height, width))
        checks.one_of("resize", self.resize, RESIZES)
        checks.whole("state_dim", self.state_dim, low=0, high=MAX_DIM)
        if self.action_dim is not None:
            checks.whole("action_dim", self.action_dim, low=1, high=MAX_DIM)
        checks.whole("chunk", self.chunk, low=1, high=MAX_CHUNK)
        if self.history is not None:
            checks.whole("history", self.history, low=1, high=MAX_CHUNK)
        checks.whole("history_interval", self.history_interval, low=1, high=MAX_CHUNK)
        if self.action_freq is not None:
            freq = checks.number("action_freq", self.action_freq, low=1e-3, high=1e6)
            object.__setattr__(self, "action_freq", freq)
        checks.one_of("resample", self.resample, RESAMPLES)
        checks.one_of("image_resample_strategy", self.image_resample_strategy, STRATEGIES)
        checks.one_of("vector_resample_strategy", self.vector_resample_strategy, STRATEGIES)
        checks.one_of("delta", self.delta, DELTAS)
        self._check_delta()

    def _check_delta(self) -> None:
        object.__setattr__(self, "delta_mask", tuple(checks.flag("delta_mask", on) for on in self.delta_mask))
        places = tuple(checks.whole("delta_state", i, low=0, high=MAX_DIM - 1) for i in self.delta_state)
        object.__setattr__(self, "delta_state", places)
        if self.delta == "none" and (self.delta_mask or self.delta_state):
            raise ValueError("delta_mask and delta_state need delta")
        if places and len(places) != len(self.delta_mask):
            raise ValueError(f"delta_state has {len(places)} places for {len(self.delta_mask)} of delta_mask")

    @property
    def needs_state(self) -> bool:
        """Whether a sample has a state, or actions count from it."""
        return self.state_dim > 0 or self.delta != "none"

    @property
    def target(self) -> Convention | None:
        """The convention of actions as they are handed out.

        Where commands are resampled to an ``action_freq`` that is not the ``control_rate`` of ``convention``, that
        gives way, and a controller's own units become metres and radians, as in `vla_data.steps.resample`: its
        inputs reach what it can do in a step of its own rate, and not what another rate asks for in one.
        """
        made, freq = self.convention, self.action_freq
        if made is None or freq is None or self.resample != "commands":
            return made
        return replace(made, control_rate=freq) if made.control_rate in (None, freq) else made.at_rate(freq)

    def to_json(self) -> dict[str, Json]:
        """A plain dictionary."""
        out: dict[str, Json] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, Convention):
                value = value.to_json()
            out[name] = list(value) if isinstance(value, tuple) else value
        return out


def convention_of(value: Any) -> Convention | None:
    """A convention from a preset's name or a table of facts; None from None."""
    if value is None or isinstance(value, Convention):
        return value
    if isinstance(value, str):
        return preset(value)
    if isinstance(value, Mapping):
        made = Convention.from_json(value)
        for key in made.other:
            close = difflib.get_close_matches(str(key), Convention.__dataclass_fields__, n=1)
            raise ValueError(f"a convention has no {key!r}{f'; did you mean {close[0]}?' if close else ''}")
        check_parts(made.layout)
        return made
    raise ValueError(f"a convention is the name of a preset or a table, not {value!r}")
