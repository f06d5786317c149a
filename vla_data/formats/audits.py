"""Which examiner a dataset of ours has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vla_data.errors import UsageError
from vla_data.formats.detection import detect
from vla_data.formats.made import format_named, sinks_of
from vla_data.formats.tables import FORMATS, load_audit


def audit_of(root: Path, side: str) -> Any:
    """The class that examines the dataset at ``root``, a `vla_data.verification.audit.Audit`; None where no format
    that is installed knows one.

    By the sink of the manifest, or one that it wraps; where that is nobody's here, by what the files are; and
    where there is no manifest to ask, by the sidecar alone.
    """
    names = sinks_of(root / side)
    formats = [found for name in names if (found := format_named(name, "sink")) is not None]
    if names and not formats:
        try:
            formats = [detect(root)]
        except UsageError:
            return None
    if not names:
        return load_audit(side)
    for name in formats:
        if FORMATS[name].audit and FORMATS[name].sidecar in (side, None):
            return load_audit(side, name)
    return None
