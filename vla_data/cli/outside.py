"""Files that a command writes for a person lie outside of the dataset that they are about."""

from __future__ import annotations

from pathlib import Path

from vla_data.errors import UsageError
from vla_data.formats import find
from vla_data.formats.open import split
from vla_data.remote.address import is_url
from vla_data.safety.text import show


def keep_out(address: str, output: Path, option: str) -> None:
    """Refuse a file inside of a dataset, where it would be one that nobody published.

    Raises:
        UsageError: E001.
    """
    where = split(address)[1]
    if is_url(where):
        return
    path = find(address)[1]
    if isinstance(path, Path) and path.is_dir() and output.resolve().is_relative_to(path.resolve()):
        raise UsageError("E001", f"{show(output)} is inside of the dataset; {option} names a place outside of it")
