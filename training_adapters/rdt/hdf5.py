"""What takes the place of ``HDF5VLADataset`` in RDT's training and in its count of statistics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converters.rdt import file as rdt_file
from converters.rdt.sample import Rules, Trajectory, first_step, sample, state_only
from converters.rdt.sink import FACTS
from vla_data.errors import DataError, UsageError
from vla_data.files.write import files_below
from vla_data.safety import strict_json
from vla_data.safety.text import show


class Hdf5VlaDataset:
    """The episodes of a folder that ``vla-data convert --to rdt`` wrote, with the methods that RDT's code calls.

    In RDT's ``train/dataset.py``, ``from data.hdf5_vla_dataset import HDF5VLADataset`` becomes::

        from functools import partial
        from training_adapters.rdt import Hdf5VlaDataset
        HDF5VLADataset = partial(Hdf5VlaDataset, "PATH")

    Unlike RDT's class it tells episodes that can't be used (`left_out`) before training starts, takes those of 32
    steps or more, never gives another episode than the one that was asked for, and knows the channels' order.

    Args:
        folder: the dataset, or any folder of files in its layout, with ``name``.
        name: of the dataset; None: from ``rdt.json``.
        rules: how samples are cut; None: from ``rdt.json``.
        seed: of the draws of `get_item`; None: NumPy's global generator, which RDT's training seeds.
    """

    def __init__(
        self, folder: str | Path, *, name: str | None = None, rules: Rules | None = None, seed: int | None = None
    ) -> None:
        self._root = Path(folder)
        facts = _facts(self._root)
        if name is None and "dataset_name" not in facts:
            raise UsageError("E001", f"{show(folder)} has no {FACTS}; give its name=")
        self.DATASET_NAME = name if name is not None else str(facts["dataset_name"])
        self.rules = rules or Rules(
            **{key: facts[key] for key in ("chunk", "history", "shortest", "moves") if key in facts}
        )
        self._rng = np.random.default_rng(seed) if seed is not None else None
        self.left_out: dict[str, str] = {}
        self.file_paths: list[Path] = []
        lengths = []
        for path in (path for path in files_below(self._root, ".hdf5") if path.is_file()):
            try:
                whole = self.trajectory(path)
            except DataError as error:
                self.left_out[path.relative_to(self._root).as_posix()] = str(error)
                continue
            self.file_paths.append(path)
            lengths.append(len(whole) - whole.first)
        if not lengths:
            raise UsageError("E003", f"{show(folder)} has no episode that can be trained on")
        self.episode_sample_weights = np.array(lengths) / np.sum(lengths)

    def __len__(self) -> int:
        """Episodes."""
        return len(self.file_paths)

    def get_dataset_name(self) -> str:
        """The name under which RDT's configuration has the dataset."""
        return self.DATASET_NAME

    def get_item(self, index: int | None = None, state_only: bool = False) -> Mapping[str, Any]:
        """A sample of a step of an episode, both at random, or of episode ``index``; see `converters.rdt.sample`.

        With ``state_only`` its states and actions from the first motion on, ``(T', 128)``.
        """
        if index is None:
            index = int(np.searchsorted(np.cumsum(self.episode_sample_weights), self._uniform(), side="right"))
            index = min(index, len(self) - 1)
        whole = self.trajectory(self.file_paths[index])
        if state_only:
            return _states(whole)
        step = whole.first + int(self._uniform() * (len(whole) - whole.first))
        return sample(
            whole,
            step,
            dataset_name=self.DATASET_NAME,
            rules=self.rules,
            instruction=self._wording(whole.facts["instructions"]),
        )

    def trajectory(self, path: Path) -> Trajectory:
        """One file."""
        found = rdt_file.read(path, root=self._root)
        if not found.instructions:
            raise DataError("E211", f"there is no {rdt_file.INSTRUCTIONS} beside it")
        return Trajectory(
            id=path.relative_to(self._root).as_posix(),
            state=found.state,
            action=found.action,
            state_mask=found.state_mask,
            action_mask=found.action_mask,
            frames=found.frames,
            task=found.instructions["instruction"][0],
            first=first_step(found.raw, self.rules),
            facts={"instructions": found.instructions},
        )

    def _wording(self, instructions: Mapping[str, list[str]]) -> str:
        kinds = [kind for kind in rdt_file.KINDS if kind in instructions]
        wordings = instructions[kinds[int(self._uniform() * len(kinds))]]
        return str(wordings[int(self._uniform() * len(wordings))])

    def _uniform(self) -> float:
        return float(np.random.random_sample() if self._rng is None else self._rng.random())


_states = state_only


def _facts(root: Path) -> Mapping[str, Any]:
    try:
        facts: Mapping[str, Any] = strict_json.read(root / FACTS, root=root)
    except DataError as error:
        if error.code != "E133":
            raise
        return {}
    return facts
