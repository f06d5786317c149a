"""What RDT's training makes of a dataset of HDF5 files, by its documented steps.

RDT (thu-ml/RoboticsDiffusionTransformer, ``data/hdf5_vla_dataset.py`` and ``train/dataset.py``) is a research
repository that can't be installed, with a class that is to be rewritten for each robot; its steps are done here.
It walks the folder for ``*.hdf5``, leaves out episodes under 128 steps, cuts the steps before the first motion,
and draws an episode by its length and then a step: a state, 64 actions, two images from each of three cameras, one
of the wordings of the instruction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from converters.rdt import bugs as rdt_bugs
from converters.rdt import cameras as rdt_cameras
from converters.rdt import config as rdt_config
from converters.rdt import file as rdt_file
from converters.rdt import slots as rdt_slots
from converters.rdt.sample import CLASS_SHORTEST, Rules, Trajectory, first_step, sample
from converters.rdt.sink import FACTS, action_convention
from vla_data.core import Json
from vla_data.errors import DataError, UsageError, VerifyError
from vla_data.files.write import files_below
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.text import show

PUBLISHED: Final = Rules(shortest=CLASS_SHORTEST)
BATCH: Final = 8


def read_back(folder: Path) -> dict[str, Json]:
    """Open every episode, make a batch, and say what RDT would see.

    Raises:
        VerifyError: E601 for what RDT can't train on or would learn wrong: a file that it can't open, an episode
            in which nothing moves, a missing instruction, no control frequency or statistics, a mistake of
            `converters.rdt.bugs`.
    """
    facts = _json(folder, FACTS)
    name = str(facts.get("dataset_name", folder.name))
    files = _files(folder)
    episodes: list[_Seen] = []
    _judge(_pairs(files, folder, episodes), facts)
    longest = max(range(len(episodes)), key=lambda i: episodes[i].length)
    frequency = _entry(folder, rdt_config.FREQUENCY, name)
    stat = _entry(folder, rdt_config.STAT, name)
    if len(stat.get("state_mean", ())) != 128:
        raise VerifyError("E601", f"RDT: state_mean of {show(name)} in {rdt_config.STAT} is not of 128 numbers")
    if not isinstance(frequency, int | float) or isinstance(frequency, bool) or frequency <= 0:
        raise VerifyError("E601", f"RDT: the control frequency of {show(name)} is {show(frequency)}")
    whole = _open(files[longest], folder)
    batch = _batch(whole, name)
    used = {part: np.flatnonzero(getattr(whole, f"{part}_mask")).tolist() for part in ("state", "action")}
    warnings = list(_warnings(episodes, whole, facts))
    span = f"a chunk of {PUBLISHED.chunk} actions is {PUBLISHED.chunk / frequency:.3g} s"
    layout = show(facts.get("layout", "layout unknown"))
    lines = [
        f"  RDT: {len(episodes):,} episodes of {show(name)} at {frequency:g} Hz; {span}",
        f"  state in slots {_runs(used['state'])}; action in slots {_runs(used['action'])} ({layout})",
        "  a batch:",
        *(f"    {key}: {what}" for key, what in batch.items()),
        f"    instruction: {show(whole.task)}",
        *(f"  warning: {line}" for line in warnings),
    ]
    return {
        "episodes": len(episodes),
        "slots": used,
        "control_freq": frequency,
        "batch": batch,
        "warnings": warnings,
        "lines": lines,
    }


def _files(folder: Path) -> list[Path]:
    found = [path for path in files_below(folder, ".hdf5") if path.is_file()]
    if not found:
        raise VerifyError("E601", "RDT: there is no *.hdf5 file")
    return found


def _open(path: Path, folder: Path) -> Trajectory:
    name = show(path.relative_to(folder).as_posix())
    try:
        found = rdt_file.read(path, root=folder)
        missing = [kind for kind in rdt_file.KINDS if kind not in found.instructions]
        if missing:
            raise VerifyError(
                "E601", f"RDT: {name}: no {rdt_file.INSTRUCTIONS} with {', '.join(missing)} beside it"
            )
        if not found.frames:
            raise VerifyError("E601", f"RDT: {name}: none of the cameras {', '.join(rdt_cameras.SLOTS)}")
        first = first_step(found.raw, Rules(shortest=1))
    except DataError as error:
        raise VerifyError("E601", f"RDT: {name}: {error.message}") from None
    task = found.instructions["instruction"][0]
    if not task.strip():
        raise VerifyError("E601", f"RDT: {name}: the instruction is empty")
    return Trajectory(
        id=name,
        state=found.state,
        action=found.action,
        state_mask=found.state_mask,
        action_mask=found.action_mask,
        frames=found.frames,
        task=task,
        first=first,
        facts={"declared": found.declared, "width": found.raw.shape[1], **found.facts},
    )


def _json(folder: Path, name: str) -> dict[str, Json]:
    if not (folder / name).exists():
        return {}
    try:
        value = strict_json.loads(read_file(folder / name, root=folder)[0], name=name)
    except DataError as error:
        raise VerifyError("E601", f"RDT: {name}: {error.message}") from None
    return value if isinstance(value, dict) else {}


def _entry(folder: Path, file: str, name: str) -> Json:
    content = _json(folder, f"{rdt_config.FOLDER}/{file}")
    if name not in content:
        raise VerifyError("E601", f"RDT: {rdt_config.FOLDER}/{file} has no entry for {show(name)}")
    return content[name]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is kept of an episode: there may be many."""

    length: int
    first: int
    width: int
    channels: str


def _pairs(files: Sequence[Path], folder: Path, seen: list[_Seen]) -> Iterator[rdt_bugs.Pair]:
    """States and actions of every episode; what else is to be known of it goes to ``seen``."""
    for path in files:
        whole = _open(path, folder)
        channels = str(whole.facts.get("channel_order", "bgr"))
        seen.append(_Seen(len(whole), whole.first, int(whole.facts["width"]), channels))
        yield whole.state, whole.action


def _judge(pairs: Iterator[rdt_bugs.Pair], facts: dict[str, Json]) -> None:
    """RDT's documented checks and the known mistakes."""
    convention, fps, masks = None, None, None
    if facts:
        try:
            if facts["layout"] != "agilex":
                convention, _ = action_convention(facts)
            fps = float(facts["control_freq"])
            masks = (_mask(facts["slots"]["state"]), _mask(facts["slots"]["action"]))
        except (UsageError, KeyError, TypeError, ValueError, IndexError) as error:
            raise VerifyError("E601", f"RDT: {FACTS} can't be understood ({type(error).__name__})") from None
    bugs = rdt_bugs.find_all(pairs, convention=convention, masks=masks, fps=fps)
    if bugs:
        raise VerifyError("E601", f"RDT: {bugs[0].code}: {bugs[0].message}")


def _mask(slots: Json) -> NDArray[np.bool_]:
    mask = np.zeros(rdt_slots.SIZE, dtype=np.bool_)
    mask[[int(slot) for slot in slots]] = True
    return mask


def _batch(whole: Trajectory, name: str) -> dict[str, str]:
    steps = np.linspace(whole.first, len(whole) - 1, BATCH).astype(int)
    samples = [sample(whole, int(step), dataset_name=name) for step in steps]
    keys = ["state", "actions", "state_indicator", "state_norm", *rdt_cameras.SLOTS]
    stacked = {key: np.stack([one[key] for one in samples]) for key in keys}
    return {key: f"{value.dtype} {value.shape}" for key, value in stacked.items()}


def _warnings(episodes: Sequence[_Seen], longest: Trajectory, facts: dict[str, Json]) -> Iterator[str]:
    short = sum(one.length < CLASS_SHORTEST for one in episodes)
    if short:
        all_of = "all" if short == len(episodes) else f"{short:,} of {len(episodes):,}"
        yield (
            f"RDT's published class leaves out episodes under {CLASS_SHORTEST} steps: {all_of} of these; "
            "training_adapters.rdt takes them"
        )
    if any(one.width == rdt_slots.SIZE for one in episodes):
        yield "RDT's published class wants AgileX's 14 numbers; use training_adapters.rdt.Hdf5VlaDataset instead"
    absent = [slot for slot in rdt_cameras.SLOTS if slot not in longest.frames]
    if absent:
        yield f"no {', '.join(absent)}: RDT sees its background colour there"
    if any(one.channels == "rgb" for one in episodes):
        yield "images are RGB as everyone stores them; RDT's published class would see red and blue exchanged"
    if facts.get("layout") in ("pose_delta", "velocity", "velocity_per_step"):
        yield "RDT fills chunks beyond the end with the last action, which is a motion here, unmasked"


def _runs(slots: Sequence[int]) -> str:
    """Slots as 0-6, 10, 30-38."""
    out: list[list[int]] = []
    for slot in slots:
        if out and slot == out[-1][-1] + 1:
            out[-1].append(slot)
        else:
            out.append([slot])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in out)
