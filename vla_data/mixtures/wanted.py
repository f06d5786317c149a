"""What of a dataset a mixture looks at, known before its episodes are read."""

from __future__ import annotations

from dataclasses import dataclass

from vla_data.mixtures.config import Entry
from vla_data.mixtures.contract import Contract
from vla_data.mixtures.rates import TIMES
from vla_data.mixtures.track import CAMERA, STATE_FEATURE


@dataclass(frozen=True, slots=True)
class Wanted:
    """Drops what neither the contract nor the entry names; see `vla_data.core.wanted.Names`.

    So a camera that can't be decoded, or a column with gaps, costs nothing where the mixture has no use for it.

    Attributes:
        names: of features that stay.
    """

    names: frozenset[str]

    @classmethod
    def of(cls, entry: Entry, contract: Contract) -> Wanted:
        """What a dataset of a mixture is looked at for."""
        cameras = {CAMERA.format(camera) for camera in contract.cameras} | set(contract.cameras)
        state = (STATE_FEATURE,) if entry.state is None else entry.state
        own = {entry.action, entry.task, entry.time, *state, *entry.cameras.values(), *contract.extras}
        return cls(frozenset(cameras | own | set(TIMES)))

    def needs(self, name: str) -> bool:
        """None is looked at before it is chosen."""
        return False

    def becomes(self, name: str) -> str | None:
        """The same name, or None."""
        return name if name in self.names else None
