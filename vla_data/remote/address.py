"""Telling URLs from paths, without importing what opens them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from vla_data.errors import UsageError
from vla_data.safety.text import show

_URL: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*::)*([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)
EXTRAS: Final = {"gcs": "gs", "gs": "gs", "hf": "hf", "s3": "s3", "s3a": "s3"}
"""Protocol -> our extra that installs what speaks it. Others need ``remote`` and fsspec's package for them."""


def is_url(address: object) -> bool:
    """Whether this is ``PROTOCOL://...`` (or a chain of them) and not a path on this machine."""
    return isinstance(address, str) and _URL.fullmatch(address) is not None


def parse_url(url: str) -> tuple[str, str]:
    """(protocol, the rest without a slash at its end).

    Raises:
        UsageError: E001 for what names no place, chains protocols, or carries a password.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise UsageError("E001", f"{show(url)} is no URL")
    protocol, rest = found[1], found[2].rstrip("/")
    if "::" in url:
        raise UsageError("E001", f"{show(url)} chains protocols, which is not supported")
    if not rest:
        raise UsageError("E001", f"{show(url)} names no bucket or folder")
    if "@" in rest.partition("/")[0] and protocol != "hf":
        raise UsageError("E001", f"a {protocol}:// address holds no user or password; the store's settings do")
    return protocol, rest


def local(address: str | Path) -> Path:
    """The path of an address that must be on this machine.

    Raises:
        UsageError: E001 for a URL.
    """
    if is_url(address):
        raise UsageError("E001", f"{show(address)}: this needs a folder on this machine; copy it here first")
    return Path(address)
