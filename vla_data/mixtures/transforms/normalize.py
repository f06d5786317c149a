"""Numbers as a trainer's network is fed them, and its actions as the robot takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vla_data import options as checks
from vla_data.core import Array
from vla_data.errors import UsageError
from vla_data.mixtures.transforms import measured, stats_file
from vla_data.mixtures.transforms.base import Batch, BatchTransform, Datasets, Form, alike
from vla_data.mixtures.transforms.stats_file import ACTION, STATE, Statistics
from vla_data.safety.text import show
from vla_data.statistics.rules import RULES, denormalize, normalize

if TYPE_CHECKING:
    from vla_data.mixtures.mixture import Mixture

_MASKS: Final = {ACTION: "action_mask", STATE: "observation.state_mask"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Normalize(BatchTransform):
    """Normalises ``action`` and ``observation.state`` by a trainer's own rule.

    Only the elements that a row's dataset has are; padding stays 0, which is what openpi pads with. It is computed
    in float64, and handed on as float32. `inverse` is the way back as that trainer goes it: exact up to the
    rounding of float32, but for what the rule clips (OpenVLA, Octo, GR00T: beyond their bounds) and what it makes
    0 (constants), and 1e-8 deviations where the trainer adds its epsilon on one way alone.

    Attributes:
        rule: a name in `vla_data.statistics.RULES`, such as ``openpi.quantile`` or ``openvla.bounds_q99``.
        statistics: name of a dataset -> ``action`` and ``observation.state`` -> the entry of a trainer's file
            (lists of numbers by name); under ``""`` those of all datasets.
        features: which of the two are normalised.
        form: that it is bound to, or None.

    Raises:
        UsageError: E001 for another rule or feature, E203 and E206 for statistics that it can't use.
    """

    rule: str
    statistics: Mapping[str, Statistics]
    features: tuple[str, ...] = (ACTION, STATE)
    form: Form | None = None

    def __post_init__(self) -> None:
        try:
            checks.one_of("rule", self.rule, tuple(RULES))
            for feature in self.features:
                checks.one_of("features", feature, tuple(_MASKS))
        except ValueError as error:
            raise UsageError("E001", f"Normalize: {error}") from None
        for name, of_dataset in self.statistics.items():
            for feature in self.features:
                if feature in of_dataset:
                    stats_file.check(
                        of_dataset[feature], self.rule, f"{feature} of {show(name or 'all datasets')}"
                    )

    @classmethod
    def of_file(
        cls,
        path: str | Path,
        rule: str,
        *,
        action: str | None = None,
        state: str | None = None,
        features: Sequence[str] = (ACTION, STATE),
    ) -> Normalize:
        """By a trainer's statistics file: ``norm_stats.json``, ``dataset_statistics.json`` or ``stats.json``.

        Args:
            path: the file; by dataset, or of one.
            rule: see `Normalize`.
            action: what the file calls the action; None: as the rule's trainer does.
            state: likewise.
            features: see `Normalize`.

        Raises:
            UsageError: E003, E141 for a file that can't be read, E206 for one without such statistics.
        """
        found = stats_file.read(Path(path), rule, {ACTION: action, STATE: state})
        return cls(rule=rule, statistics=found, features=tuple(features))

    @classmethod
    def of(
        cls,
        mixture: Mixture,
        rule: str,
        *,
        action_mask: str | Sequence[bool] = (),
        features: Sequence[str] = (ACTION, STATE),
    ) -> Normalize:
        """By statistics of a mixture itself, exact, counted as the rule's trainer counts.

        OpenVLA and Octo have statistics of each dataset, the others of the mixture as it is drawn. openpi counts
        whole chunks with what they repeat at the end; the others each step's action, or where actions count from a
        state (``delta``) all actions of chunks that are there.

        Args:
            mixture: an open one.
            rule: see `Normalize`.
            action_mask: OpenVLA and Octo: which elements of an action are normalised, as ``6,-1``.
            features: see `Normalize`.

        Raises:
            UsageError: E001 for a mask that the rule does not heed, E005 for datasets of several widths.
            DataError: an episode can't be read any more.
        """
        wanted = tuple(feature for feature in features if feature == ACTION or mixture.config.contract.state_dim)
        return cls(rule=rule, statistics=measured.measure(mixture, rule, wanted, action_mask), features=wanted)

    def bind(self, form: Form) -> tuple[Normalize, Form]:
        """See `BatchTransform.bind`.

        Raises:
            UsageError: E206 when a dataset has no statistics, E203 when they are of another width.
        """
        for name, *widths in zip(form.names, form.actions, form.states, strict=True):
            for feature, width in zip((ACTION, STATE), widths, strict=True):
                if feature in self.features and width and RULES[self.rule] is not None:
                    stats_file.fit(self._entry(name, feature), self.rule, width, f"{feature} of {show(name)}")
        return replace(self, form=form), form

    def forward(self, batch: Batch, *, epoch: int = 0) -> dict[str, Any]:
        """See `BatchTransform.forward`.

        Raises:
            UsageError: E206 when a row's dataset has no statistics.
        """
        del epoch
        out = dict(batch)
        for feature in self.features:
            if feature not in batch or RULES[self.rule] is None:
                continue
            values: Array = np.asarray(batch[feature])
            mask = np.asarray(batch.get(_MASKS[feature], np.ones((len(values), values.shape[-1]), dtype=np.bool_)))
            made = values.astype(np.result_type(values.dtype, np.float32))
            for rows, name in self._by_dataset(batch.get("dataset_index"), len(values)):
                for part, kind in alike(mask[rows]):
                    if kind.any():
                        at = np.ix_(rows[part], *map(np.arange, values.shape[1:-1]), np.flatnonzero(kind))
                        made[at] = normalize(values[at], self._entry(name, feature), self.rule)
            out[feature] = made
        return out

    def inverse(self, actions: Any, *, dataset: Datasets = None) -> Array:
        """See `BatchTransform.inverse`; elements beyond those of the dataset's actions stay as they are.

        Raises:
            UsageError: E001 when it has statistics of several datasets and none is named, or there is no such
                dataset; E206 for one without statistics, E203 for actions of fewer elements.
        """
        values = np.asarray(actions)
        if ACTION not in self.features or RULES[self.rule] is None:
            return values
        made = values.astype(np.result_type(values.dtype, np.float32))
        if dataset is None or isinstance(dataset, str):
            made[...] = self._back(values, self._name(dataset))
            return made
        numbers = np.asarray(dataset, dtype=np.int64)
        if numbers.ndim == 0:
            made[...] = self._back(values, self._name(int(numbers)))
            return made
        if numbers.shape != values.shape[:1]:
            raise UsageError(
                "E203",
                f"dataset has shape {numbers.shape}; give one number for each of the {len(values):,} "
                "rows of actions",
            )
        for rows, name in self._by_dataset(numbers, len(values)):
            made[rows] = self._back(values[rows], name)
        return made

    def _back(self, values: Array, name: str) -> Array:
        entry = self._entry(name, ACTION)
        width = self._width(name, entry)
        if values.shape[-1] < width:
            raise UsageError(
                "E203", f"actions of {values.shape[-1]} elements; {show(name) or 'they'} have {width}"
            )
        out = values.astype(np.float64)
        out[..., :width] = denormalize(out[..., :width], stats_file.cut(entry, width), self.rule)
        return out

    def _width(self, name: str, entry: Statistics) -> int:
        """Elements of an action of a dataset."""
        known: set[int] = set()
        if self.form is not None:
            known = {w for n, w in zip(self.form.names, self.form.actions, strict=True) if w and name in (n, "")}
        return known.pop() if len(known) == 1 else stats_file.width(entry, self.rule)

    def _by_dataset(self, numbers: Any, count: int) -> Iterator[tuple[Array, str]]:
        """Rows, and the dataset that they are of."""
        if numbers is None:
            yield np.arange(count), self._name(None)
            return
        for number in np.unique(numbers).tolist():
            yield np.flatnonzero(np.asarray(numbers) == number), self._name(number)

    def _name(self, dataset: str | int | None) -> str:
        known = self.form.names if self.form is not None else None
        if isinstance(dataset, int) and known is not None and 0 <= dataset < len(known):
            return known[dataset]
        if dataset is not None and known is not None and dataset not in known:
            raise UsageError(
                "E001", f"there is no dataset {show(dataset)}; known are {', '.join(map(show, known))}"
            )
        if isinstance(dataset, str):
            return dataset
        if "" in self.statistics:
            return ""
        if len(self.statistics) == 1:
            return next(iter(self.statistics))
        names = ", ".join(map(show, self.statistics))
        raise UsageError("E001", f"there are statistics of several datasets: say which dataset it is of {names}")

    def _entry(self, name: str, feature: str) -> Statistics:
        of_dataset = self.statistics.get(name, self.statistics.get(""))
        if of_dataset is None:
            have = ", ".join(map(show, self.statistics))
            raise UsageError("E206", f"there are no statistics of {show(name)}; there are of {have}")
        if feature not in of_dataset:
            what = show(name or "all datasets")
            raise UsageError("E206", f"the statistics of {what} have no {feature}; features = says what is wanted")
        entry: Statistics = of_dataset[feature]
        return entry
