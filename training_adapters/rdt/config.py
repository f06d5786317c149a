"""The options of training in RDT's slots, and their presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from converters.rdt.sample import Rules
from converters.rdt.vectors import LAYOUTS
from training_adapters import checked
from training_adapters.rdt.item import Hiding


@dataclass(frozen=True, kw_only=True)
class RdtConfig:
    """How a flow policy is trained in RDT's 128 slots.

    Attributes:
        dataset: a path or FORMAT:PATH, of any format that vla-data reads.
        open: options of its source, as of `vla_data.open_source`.
        env: the environment that it is evaluated in; "": none.
        layout: of actions in the slots; see `converters.rdt.vectors`.
        action_convention: what the dataset's actions mean, the name of a preset, where it does not say.
        state_convention: likewise of ``observation.state``.
        observe: a feature that the policy sees beside RDT's state, for objects without a slot; "": none.
        chunk: actions of a sample.
        history: images of each camera.
        shortest: steps that an episode must have.
        moves: samples begin one step before the first at which the state differs by more than this.
        hiding: probability of hiding each of rate, state, mask, image and instruction.
        snr: dB of the state's noise; None: none.
        side: pixels of an image, as the small policy sees it; 0: it sees none.
        updates: of the optimiser.
        batch_size: frames of an update.
        learning_rate: at its highest.
        eval_episodes: held-out episodes in the end; 0: none.
        save_every: updates between checkpoints; 0: at the end alone.
        log_every: updates between lines of metrics.
        seed: of parameters and draws.
    """

    dataset: str
    open: Mapping[str, Any] = field(default_factory=dict)
    env: str = ""
    layout: str = "pose_delta"
    action_convention: str = ""
    state_convention: str = ""
    observe: str = ""
    chunk: int = 64
    history: int = 2
    shortest: int = 32
    moves: float = 1e-2
    hiding: float = 0.1
    snr: float | None = 40.0
    side: int = 32
    updates: int = 3_000
    batch_size: int = 64
    learning_rate: float = 2e-3
    eval_episodes: int = 0
    save_every: int = 500
    log_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        checked.texts(self, "dataset", "env", "action_convention", "state_convention", "observe")
        if not isinstance(self.open, Mapping):
            raise ValueError(f"open is {self.open!r}, not a table")
        checked.words(self, {"layout": LAYOUTS})
        checked.wholes(self, 1, "batch_size", "log_every", "updates")
        checked.wholes(self, 0, "eval_episodes", "save_every", "seed", "side")
        checked.numbers(self, checked.LEAST, checked.MOST, "learning_rate")
        if self.eval_episodes and not self.env:
            raise ValueError("eval_episodes says how many, and env not where")
        self.rules()
        self.hides()

    def rules(self) -> Rules:
        """How samples are cut."""
        return Rules(chunk=self.chunk, history=self.history, shortest=self.shortest, moves=self.moves)

    def hides(self) -> Hiding:
        """What samples are stripped of."""
        return Hiding(probability=self.hiding, snr=self.snr)


_TABLETOP: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "env": "tabletop",
        "observe": "observation.state",
        "chunk": 8,
        "shortest": 4,
        "moves": 1e-4,
        "hiding": 0.0,
        "side": 0,
        "eval_episodes": 240,
    }
)
PRESETS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "debug": MappingProxyType({"chunk": 8, "shortest": 4, "updates": 20, "batch_size": 8, "log_every": 10}),
        "full": MappingProxyType({"updates": 100_000, "save_every": 5_000, "learning_rate": 1e-4}),
        "laptop": MappingProxyType({}),
        "tabletop": _TABLETOP,
    }
)
"""What differs from the defaults. ``tabletop`` is for recordings of the table-top scene's states, which tell the
policy all that it needs, so that nothing is hidden; its episodes are short."""
