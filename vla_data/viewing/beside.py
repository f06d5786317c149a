"""What lies beside a dataset of ours: the ledger's buckets, and advantages of each frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from vla_data.core import Array, Episode, Json
from vla_data.core.ledger import Ledger, Record
from vla_data.errors import UsageError, VlaDataError
from vla_data.formats.open import split
from vla_data.formats.sidecar import find_sidecar, open_ledger
from vla_data.mixtures.annotations import Annotations
from vla_data.remote.address import is_url
from vla_data.safety.text import show

_TAGS: Final = "meta/vla_data/advantages"
_LEROBOT: Final = "episode_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What is known of the episodes of a dataset besides what they hold.

    Attributes:
        records: of published episodes, by their position in the dataset.
        by_id: the same, by the id in the source.
        tag: name of the annotation, or empty.
        annotations: None where there are none.
    """

    records: dict[int, Record]
    by_id: dict[str, Record]
    tag: str = ""
    annotations: Annotations | None = None

    def record(self, name: str, episode: Episode | None = None) -> Record | None:
        """What the ledger says of an episode, by its number or by the id that it had in the source."""
        number = name.removeprefix(_LEROBOT)
        if name.startswith(_LEROBOT) and number.isdecimal():
            return self.records.get(int(number))
        origin = None if episode is None else episode.meta.origin
        return self.by_id.get(str(origin.get("id")) if origin else name)

    def solved(self) -> dict[str, bool]:
        """Id in a LeRobot dataset -> whether the ledger calls the episode solved."""
        return {
            f"{_LEROBOT}{at:06d}": record.success
            for at, record in self.records.items()
            if record.success is not None
        }

    def advantages(self, name: str, steps: int) -> dict[str, Json] | None:
        """``tag``, and ``value``, ``advantage`` and ``positive`` of each step; None where there are none."""
        number = name.removeprefix(_LEROBOT)
        if self.annotations is None or not number.isdecimal():
            return None
        try:
            found = self.annotations.at(int(number), np.arange(steps))
        except UsageError:
            return None
        return {"tag": self.tag, **{key: _plain(values) for key, values in found.items() if key != "return"}}


def _plain(values: Array) -> list[Json]:
    """What is not finite has no place in JSON."""
    told: list[Json] = values.tolist()
    return told if values.dtype.kind != "f" else [x if math.isfinite(x) else None for x in told]


def beside(address: str, tag: str | None) -> Beside:
    """What lies beside the dataset at an address; nothing beside what is not ours.

    Args:
        address: as the user gave it.
        tag: of the annotation; None: the only one, or none.

    Raises:
        UsageError: E003 for a tag that is not there, E301 and E302 for an annotation that does not fit.
    """
    path = Path(split(address)[1])
    local = not is_url(split(address)[1]) and path.is_dir()
    if not local:
        if tag is not None:
            raise UsageError("E003", f"{show(address)} is no LeRobot dataset on this machine, so it has no tags")
        return Beside(records={}, by_id={})
    tags = sorted(file.stem for file in (path / _TAGS).glob("*.parquet"))
    chosen = tag if tag is not None else tags[0] if len(tags) == 1 else ""
    records = [record for record in _ledger(path).records if record.output_index is not None]
    return Beside(
        records={record.output_index: record for record in records if record.output_index is not None},
        by_id={record.id: record for record in records},
        tag=chosen,
        annotations=Annotations.read(path, chosen) if chosen else None,
    )


def _ledger(path: Path) -> Ledger:
    try:
        return open_ledger(path) if find_sidecar(path) is not None else Ledger(())
    except VlaDataError:  # verify tells what is wrong with it
        return Ledger(())
