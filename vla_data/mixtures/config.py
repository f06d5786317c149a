"""The configuration of a mixture: a TOML or JSON file, ours or RECAP's.

    seed = 0
    weights = [3, 1]                  # by dataset; without: weighting = "frames" | "datasets" | "temperature"
    order = "draw"                    # or "shuffle": each frame of an epoch once; "sequential"
    cache = "/scratch/packs"          # optional: episodes ready to be read at random
    cache_images = "fitted"           # as pixels of image_size; "stored", the default: as they are stored

    [contract]                        # see vla_data.mixtures.Contract
    cameras = ["front", "wrist"]
    image_size = [224, 224]
    state_dim = 32
    action_dim = 32
    chunk = 50
    action_freq = 10
    convention = "libero"             # a preset's name, or a table

    [[datasets]]
    root = "lerobot:lab_a"            # a path, or FORMAT:PATH
    episodes = [0, 3, 4]              # default: all
    cameras = { front = "observation.images.image", wrist = "" }      # "": this dataset has none
    state = ["observation.state"]     # one feature, or several one after the other; [] is none
    annotation = "v1"                 # of `vla-data annotate`: advantages in the batch
    fps = 20                          # only where the dataset's own label is wrong
    convention = "libero"             # only where the dataset declares none
    base = [0.5, 0, 0.8]              # only where actions change between the frames of the world and the base

A file with ``dataset_mixture`` is a RECAP (OpenTau) configuration; see `training_adapters.opentau.mixture`.
Unknown keys are refused.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vla_data import options as checks
from vla_data.actions import Convention
from vla_data.errors import DataError, UsageError
from vla_data.formats import load_trainer, names_code
from vla_data.mixtures.contract import Contract, convention_of
from vla_data.mixtures.sampling import ORDERS, WEIGHTINGS
from vla_data.safety import strict_json
from vla_data.safety.files import read_config
from vla_data.safety.text import show
from vla_data.statistics.chunks import parse_mask

MAX_DATASETS: Final = 10_000
CACHE_IMAGES: Final = ("stored", "fitted")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One dataset of a mixture.

    Attributes:
        root: where it is: a path, or ``FORMAT:PATH``.
        name: what it is called in batches and reports; "": its folder's name.
        episodes: positions in the dataset, of a LeRobot dataset its ``episode_index``; None: all.
        open: options of its source, as of `vla_data.open_source`.
        fps: steps per second, where its label is wrong.
        cameras: camera of the contract -> feature, or "" where it has none. A camera that is not here is the
            feature of its name, or ``observation.images.<name>``.
        state: features that make the state, one after the other; none of them: there is no state. None:
            ``observation.state``, where there is one.
        annotation: tag of the dataset's annotation, whose numbers go into the batch; "": none.
        action: the feature of actions.
        state_index: which elements of the state are taken, in this order; empty: all.
        action_index: likewise of the (converted) action.
        convention: of its actions, where the dataset declares none.
        state_convention: likewise of the state.
        base: pose of the robot's base in the world, where actions are converted between these frames; see
            `vla_data.actions.base.base_pose`.
        task: the feature of per-step instructions; "": those of the episode.
        time: the feature of recorded times in seconds, by which the rate is checked; "": none is declared.
    """

    root: str = field(repr=False)
    name: str = ""
    episodes: tuple[int, ...] | None = None
    open: Mapping[str, Any] = field(default_factory=dict)
    fps: float | None = None
    cameras: Mapping[str, str] = field(default_factory=dict)
    state: tuple[str, ...] | None = None
    action: str = "action"
    state_index: tuple[int, ...] = ()
    action_index: tuple[int, ...] = ()
    convention: Convention | None = None
    state_convention: Convention | None = None
    base: tuple[float, ...] = ()
    task: str = ""
    time: str = ""
    annotation: str = ""

    def __post_init__(self) -> None:
        for name in ("root", "name", "action", "task", "time", "annotation"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is {getattr(self, name)!r}, not a text")
        if not self.root:
            raise ValueError("root is empty")
        if self.episodes is not None:
            object.__setattr__(self, "episodes", _wholes("episodes", self.episodes))
            if len(set(self.episodes)) != len(self.episodes):
                raise ValueError("episodes has a number twice")
        for name in ("state_index", "action_index"):
            object.__setattr__(self, name, _wholes(name, getattr(self, name)))
        if self.fps is not None:
            object.__setattr__(self, "fps", checks.number("fps", self.fps, low=1e-3, high=1e6))
        state = (self.state,) if isinstance(self.state, str) else tuple(self.state or ())
        if not all(isinstance(feature, str) for feature in (*state, *self.cameras, *self.cameras.values())):
            raise ValueError("state and cameras are names of features")
        if self.state is not None:
            object.__setattr__(self, "state", tuple(feature for feature in state if feature))


@dataclass(frozen=True, kw_only=True)
class Config:
    """A mixture as it is configured.

    Attributes:
        contract: what samples look like.
        datasets: at least one.
        weights: by dataset, 0 or more; None: by `weighting`.
        weighting: ``frames``, ``datasets`` or ``temperature``.
        temperature: of ``frames ** (1 / temperature)``.
        order: see `vla_data.mixtures.Sampling`.
        epoch_frames: see there.
        seed: see there.
        memory_mb: MB of 10^6 bytes for episodes that are kept in memory.
        cache: folder for packs, which make any frame quick to reach; None: none.
        cache_images: what packs have: images as they are ``stored``, or ``fitted``: as pixels of the contract's
            ``image_size``, which batches then take as they are.
        notes: keys of a foreign configuration that were read and have no effect here.
    """

    contract: Contract
    datasets: tuple[Entry, ...]
    weights: tuple[float, ...] | None = None
    weighting: str = "frames"
    temperature: float = 1.0
    order: str = "draw"
    epoch_frames: int | None = None
    seed: int = 0
    memory_mb: int = 1024
    cache: Path | None = field(default=None, repr=False)
    cache_images: str = "stored"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(self.datasets) <= MAX_DATASETS:
            raise ValueError(f"a mixture has 1 to {MAX_DATASETS:,} datasets, not {len(self.datasets)}")
        if self.weights is not None:
            weights = tuple(checks.number("weights", weight, low=0) for weight in self.weights)
            if len(weights) != len(self.datasets):
                raise ValueError(f"there are {len(weights)} weights for {len(self.datasets)} datasets")
            if self.weighting != "frames":
                raise ValueError("give weights or weighting, not both")
            object.__setattr__(self, "weights", weights)
        checks.one_of("weighting", self.weighting, WEIGHTINGS)
        checks.one_of("order", self.order, ORDERS)
        checks.whole("seed", self.seed, low=0, high=2**64 - 1)
        checks.whole("memory_mb", self.memory_mb, low=1)
        checks.one_of("cache_images", self.cache_images, CACHE_IMAGES)
        if self.cache_images == "fitted" and (self.cache is None or self.contract.image_size is None):
            raise ValueError("cache_images = 'fitted' is for a cache and an image_size of the contract")
        temperature = checks.number("temperature", self.temperature, low=1e-3, high=1e6)
        if temperature != 1.0 and self.weighting != "temperature":
            raise ValueError("temperature is for weighting = 'temperature'")
        object.__setattr__(self, "temperature", temperature)


def load(path: str | Path) -> Config:
    """The configuration in a TOML or JSON file.

    Raises:
        UsageError: E003 when there is none, E141 for broken JSON, E001 for everything else that is wrong with it,
            and for datasets that are opened by code of a user's own, which nobody's file may name.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError("E003", f"{show(path)} is a folder; a mixture is a TOML or JSON file that lists datasets")
    data = read_config(path)
    try:
        if path.suffix.lower() == ".json":
            facts = strict_json.loads(data, name=show(path.name))
        else:
            facts = tomllib.loads(data.decode())
    except DataError as error:
        raise UsageError(error.code, error.message) from None
    except (ValueError, RecursionError) as error:  # also of numbers of very many digits
        raise UsageError("E001", f"{show(path)} is not TOML: {show(error, escaped=True)}") from None
    config = parse(facts)
    for entry in config.datasets:
        if names_code(entry.root):
            raise UsageError(
                "E001",
                f"{show(path)} names {show(entry.root)}, which would import code: a file names data alone; "
                "give such a source in Python",
            )
    return config


def parse(facts: Any) -> Config:
    """The configuration that a table of facts says.

    Raises:
        UsageError: E001.
    """
    try:
        if isinstance(facts, Mapping) and "dataset_mixture" in facts:
            reader = load_trainer("opentau", "mixture")  # it is made of this module's classes
            config: Config = reader.parse(facts)
            return config
        return _parse(facts)
    except (ValueError, TypeError) as error:
        raise UsageError("E001", f"the mixture: {show(error, escaped=True)}") from None


def _parse(facts: Any) -> Config:
    known = {*Config.__dataclass_fields__} - {"notes"}
    given = table(facts, "the mixture", known)
    for key in ("contract", "datasets"):
        if key not in given:
            raise UsageError("E001", f"the mixture has no {key}")
    if not isinstance(given["datasets"], list):
        raise ValueError("[[datasets]] is a list of tables")
    contract = _contract(given.pop("contract"))
    datasets = tuple(_entry(one) for one in given.pop("datasets"))
    if given.get("cache") is not None:
        given["cache"] = Path(given["cache"])
    if given.get("weights") is not None:
        given["weights"] = tuple(given["weights"])
    return Config(contract=contract, datasets=datasets, **given)


def _contract(facts: Any) -> Contract:
    given = table(facts, "[contract]", Contract.__dataclass_fields__)
    given["convention"] = convention_of(given.get("convention"))
    if isinstance(given.get("delta_mask"), str):
        given["delta_mask"] = parse_mask(given["delta_mask"])
    return Contract(**_tuples(given))


def _entry(facts: Any) -> Entry:
    given = table(facts, "[[datasets]]", Entry.__dataclass_fields__)
    if "root" not in given:
        raise UsageError("E001", "a dataset has no root; give its path")
    for key in ("convention", "state_convention"):
        given[key] = convention_of(given.get(key))
    for key in ("open", "cameras"):
        given[key] = table(given.get(key, {}), key, None)
    return Entry(**_tuples(given))


def _tuples(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


def table(value: Any, name: str, known: Collection[str] | None) -> dict[str, Any]:
    """A copy of a table that has only known keys.

    Raises:
        UsageError: E001, with the nearest key that is known.
    """
    if not isinstance(value, Mapping):
        raise UsageError("E001", f"{name} is not a table")
    for key in value if known is not None else ():
        if key not in (known or ()):
            close = difflib.get_close_matches(str(key), list(known or ()), n=1)
            hint = f"did you mean {close[0]}?" if close else f"it may have {', '.join(sorted(known or ()))}"
            raise UsageError("E001", f"{name} has {show(key)}; {hint}")
    return dict(value)


def _wholes(name: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, list | tuple):
        raise ValueError(f"{name} is {values!r}, not a list of whole numbers")
    return tuple(checks.whole(name, value, low=0) for value in values)
