"""Parameters in a folder: safetensors, or the tree that orbax writes; read by name as ``actor_backbone/...``.

step_100/params/model.safetensors         PyTorch's, names joined by "/"
step_100/params/_METADATA, ...            orbax: an item {"params": tree}, as openpi saves it
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.errors import DataError, MachineError, UsageError
from vla_data.safety.files import read_file
from vla_data.safety.text import show

Params = dict[str, NDArray[Any]]

SAFETENSORS: Final = "model.safetensors"
MAX_PARAMS: Final = 16 << 30
_ORBAX: Final = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt")
ACTOR, CRITIC = "actor_backbone/", "value_head/"


@dataclass(frozen=True, slots=True)
class Match:
    """How stored parameters fit a model, name by name.

    Attributes:
        matched: of the same name and shape.
        missing: that the model has and the file has not.
        unexpected: that the file has and the model has not.
        reshaped: name -> (shape in the file, shape in the model).
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @property
    def whole(self) -> bool:
        """Whether everything fits."""
        return not (self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        parts = [f"{len(self.matched)} match"]
        for word, names in (("missing", self.missing), ("unexpected", self.unexpected)):
            if names:
                parts.append(f"{len(names)} {word} ({_some(names)})")
        if self.reshaped:
            shapes = [f"{name} {has} for {wants}" for name, (has, wants) in self.reshaped.items()]
            parts.append(f"{len(shapes)} of another shape ({_some(shapes)})")
        return ", ".join(parts)


def match(stored: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> Match:
    """Compare names and shapes."""
    both = [name for name in wanted if name in stored]
    return Match(
        tuple(name for name in both if stored[name] == wanted[name]),
        tuple(sorted(set(wanted) - set(stored))),
        tuple(sorted(set(stored) - set(wanted))),
        {name: (stored[name], wanted[name]) for name in both if stored[name] != wanted[name]},
    )


def shapes(params: Mapping[str, NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    """Name -> shape."""
    return {name: tuple(value.shape) for name, value in params.items()}


def form(names: Any) -> str:
    """``rl`` (an actor and a value head), ``actor`` (only an actor) or ``il`` (of imitation learning)."""
    actor, critic = (any(name.startswith(prefix) for name in names) for prefix in (ACTOR, CRITIC))
    if critic and not actor:
        raise DataError("E206", "the checkpoint has a value head and no actor_backbone")
    return "rl" if critic else "actor" if actor else "il"


def as_actor(params: Params) -> Params:
    """The parameters of a policy of imitation learning, as those of an actor."""
    return {ACTOR + name: value for name, value in params.items()}


def clean(params: Params) -> Params:
    """Without what is no parameter: random states of flax, and a ``value`` level at the end of a leaf's name."""
    kept = {name: value for name, value in params.items() if "rngs" not in name.split("/")}
    renamed = {name.removesuffix("/value"): value for name, value in kept.items()}
    if len(renamed) != len(kept):
        raise DataError("E004", "two parameters differ in a level `value` alone")
    return renamed


def read(folder: str | Path) -> Params:
    """The parameters in a folder ``params``, in either form.

    Raises:
        UsageError: E003, there are none; E006, orbax is not installed.
        DataError: E105, they cannot be read.
    """
    folder = Path(folder)
    if os.path.lexists(folder / SAFETENSORS):
        return clean(arrays(folder / SAFETENSORS, root=folder))
    if any((folder / name).exists() for name in _ORBAX):
        return clean(_read_orbax(folder))
    raise UsageError("E003", f"{show(folder)} holds no parameters: neither {SAFETENSORS} nor an orbax tree")


def write(folder: str | Path, params: Params, *, orbax: bool = False) -> None:
    """Write parameters into a new folder ``params``.

    Raises:
        UsageError: E006, orbax is wanted and not installed.
        MachineError: E703, they cannot be written.
    """
    folder = Path(folder)
    if orbax:
        _orbax().PyTreeCheckpointer().save(folder.absolute(), {"params": nested(params)})
        return
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    try:
        save_file({name: np.asarray(value, order="C") for name, value in params.items()}, folder / SAFETENSORS)
    except OSError as error:
        raise MachineError("E703", f"cannot write {SAFETENSORS}: {show(error)}") from error


def nested(params: Params) -> dict[str, Any]:
    """The tree of names joined by ``/``."""
    tree: dict[str, Any] = {}
    for name, value in params.items():
        *parents, leaf = name.split("/")
        at = tree
        for parent in parents:
            at = at.setdefault(parent, {})
        at[leaf] = value
    return tree


def flat(tree: Mapping[str, Any], above: str = "") -> Params:
    """Names joined by ``/``, of a tree."""
    out: Params = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{above}{name}/")
        else:
            out[f"{above}{name}"] = np.asarray(value)
    return out


def arrays(path: Path, *, root: Path) -> Params:
    """The tensors in a file of safetensors below ``root``, as arrays.

    Raises:
        DataError: E105, it is none; as `vla_data.safety.files.read_file`.
    """
    from safetensors.numpy import load

    return _loaded(path, root, load)


def tensors(path: Path, *, root: Path) -> dict[str, Any]:
    """The tensors in a file of safetensors below ``root``, as PyTorch's; raises as `arrays`."""
    from safetensors.torch import load

    return _loaded(path, root, load)


def _loaded(path: Path, root: Path, load: Callable[[bytes], dict[str, Any]]) -> dict[str, Any]:
    """The file is read and not mapped: a mapped file that somebody cuts ends the process."""
    from safetensors import SafetensorError

    data = read_file(path, root=root, max_bytes=MAX_PARAMS)[0]
    try:
        return dict(load(data))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError("E105", f"{show(path.name)} is damaged: {type(error).__name__}: {show(error)}") from None


def _read_orbax(folder: Path) -> Params:
    try:
        tree = _orbax().PyTreeCheckpointer().restore(folder.absolute())
    except (ValueError, OSError, KeyError) as error:
        raise DataError("E105", f"{show(folder.name)} is not a complete orbax tree: {show(error)}") from None
    return flat(tree.get("params", tree))


def _orbax() -> Any:
    try:
        import orbax.checkpoint
    except ModuleNotFoundError:
        raise UsageError(
            "E006", "this checkpoint is orbax's, which is not installed: pip install orbax-checkpoint"
        ) from None
    return orbax.checkpoint


def _some(names: Any) -> str:
    return ", ".join(map(show, list(names)[:3])) + (", ..." if len(names) > 3 else "")
