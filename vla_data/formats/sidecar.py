"""Finding a dataset of ours, and what we wrote beside it."""

from __future__ import annotations

from pathlib import Path

from vla_data.core.ledger import FILE, Ledger
from vla_data.errors import DataError, MachineError, UsageError, VerifyError
from vla_data.files.folders import has_hidden
from vla_data.formats.tables import SIDECARS
from vla_data.safety.text import show


def find_sidecar(path: Path) -> Path | None:
    """The sidecar of the dataset at ``path``, or of the only dataset of ours below it (a TFDS data dir)."""
    for side in SIDECARS:
        if (path / side / FILE).is_file():
            return path / side
    # DATA_DIR/<name>/<config>/<version>, from any level of it
    for depth in ("*", "*/*", "*/*/*"):
        below = [p for p in sorted(path.glob(depth)) if not has_hidden(p.relative_to(path).as_posix())]
        found = [p / side for p in below for side in SIDECARS if (p / side / FILE).is_file()]
        if len(found) > 1:
            names = ", ".join(show(p.parent) for p in found[:4])
            raise UsageError("E001", f"{show(path)} has several datasets; name one of {names}")
        if found:
            return found[0]
    return None


def open_ledger(path: str | Path) -> Ledger:
    """The ledger of a dataset.

    Raises:
        UsageError: E003 when there is none.
        VerifyError: E601 when it is damaged.
    """
    side = find_sidecar(Path(path))
    if side is None:
        raise UsageError("E003", f"{show(path)} has no ledger; was it made by vla-data?")
    try:
        return Ledger.read(side / FILE)
    except MachineError:
        raise
    except Exception as error:  # a damaged Parquet file fails in many ways
        why = error.message if isinstance(error, DataError) else type(error).__name__
        raise VerifyError("E601", f"the ledger of {show(path)} can't be read ({why}): vla-data repair") from None
