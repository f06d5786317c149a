"""What a dataset of ours says about itself beside its records: conventions, ids and facts of episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from converters.rlds import names as rlds_names
from vla_data.core import Array, Json, Schema
from vla_data.core.ledger import FILE, Ledger, Record
from vla_data.errors import DataError, UsageError
from vla_data.names import unit_hash
from vla_data.safety import strict_json
from vla_data.safety.files import read_file

SIDECAR: Final = "vla_data"
ORDER: Final = "vla-data order"
OWN_FACTS: Final = ("file_path", "source", "original_length", "filtered_length")
"""The ``episode_metadata`` of every record of ours; a source's own of such a name is called ``source_<name>``."""

_FACTS: Final = (
    *("env", "episode_metadata", "episode_metadata_types", "mask_names", "masks"),
    *("scene", "seed", "success"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """The sidecar of a dataset of ours.

    Attributes:
        schema: of its episodes.
        records: split -> records of the ledger in the order of the shards.
        is_undivided: whether all is in ``train`` because TFDS has no dataset without a split; nobody said so.
    """

    schema: Schema
    records: Mapping[str, tuple[Record, ...]] = field(default_factory=dict)
    is_undivided: bool = False

    @property
    def derived(self) -> frozenset[str]:
        """What the records say by a rule and no episode had."""
        return frozenset(rlds_names.ENDS) - self.schema.features.keys()

    def facts(self, split: str, number: int) -> dict[str, Json]:
        """For ``Episode.meta``: what the ledger knows; ``origin`` is the first source's id and how it was read."""
        record = self.records[split][number]
        out = {key: record.meta[key] for key in _FACTS if key in record.meta}
        origin = {key: value for key, value in record.meta.items() if key not in (*_FACTS, "split")}
        out["origin"] = record.meta.origin or {"id": record.id, **origin}
        return out


def order(episode: str) -> tuple[float, str]:
    """Sort key of the episodes of a split: no neighbours in a shard are neighbours in collection."""
    return unit_hash(episode, salt=ORDER), episode


FILES: Final = (f"{SIDECAR}/schema.json", f"{SIDECAR}/{FILE}")
"""What is read of a dataset of ours besides its data."""


def load(folder: Path) -> Own | None:
    """The sidecar, or None where there is none: somebody else's dataset.

    Raises:
        UsageError: E141 or E105, there is one and it can't be read.
    """
    try:
        data, _ = read_file(folder / SIDECAR / "schema.json", root=folder, max_bytes=16 << 20)
    except DataError as error:
        if error.code == "E133":
            return None
        raise UsageError(error.code, f"{SIDECAR}/schema.json: {error.message}") from None
    try:
        strict_json.loads(data, name=f"{SIDECAR}/schema.json")
        schema = Schema.from_text(data.decode())
        read_file(folder / SIDECAR / FILE, root=folder)  # a regular file inside of the dataset
        ledger = Ledger.read(folder / SIDECAR / FILE)
    except DataError as error:
        raise UsageError(error.code, error.message) from None
    except Exception as error:  # a damaged Parquet file fails in many ways
        raise UsageError(
            "E105", f"{SIDECAR} is damaged ({type(error).__name__}); remove it to do without"
        ) from None
    records: dict[str, list[Record]] = {}
    for record in ledger.records:
        if record.status == "published":
            records.setdefault(str(record.split), []).append(record)
    return Own(
        schema=schema,
        is_undivided=set(records) == {"train"}
        and not any(record.meta.split is not None for record in records["train"]),
        records={split: tuple(sorted(rows, key=lambda row: order(row.id))) for split, rows in records.items()},
    )


def restore(own: Own | None, arrays: dict[str, Array]) -> None:
    """Shapes that RLDS can't tell: a 16-bit image of ours may have been ``(H, W)``."""
    for name, feature in (own.schema.features if own else {}).items():
        if name in arrays and arrays[name].shape[1:] == (*feature.shape, 1):
            arrays[name] = arrays[name][..., 0]
