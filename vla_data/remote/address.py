"""Telling URLs from paths, without importing what opens them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from vla_data.errors import UsageError
from vla_data.safety.text import show

_URL: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*::)*([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)
EXTRAS: Final = {"gs": "gs", "hf": "hf", "s3": "s3"}
"""Protocol -> our extra that installs what speaks it. Others need ``remote`` and fsspec's package for them."""


_HUB: Final = "huggingface.co/datasets/"
_SAME: Final = {"gcs": "gs", "s3a": "s3"}
"""Second names of protocols, so that one place has one address."""


def plain(address: str | Path) -> str:
    """The address, or the path of a ``file://`` address: that is a place on this machine like any other.

    Raises:
        UsageError: E001 for one that is not absolute.
    """
    text = str(address)
    if not text.startswith("file://"):
        return text
    path = text.removeprefix("file://")
    if not path.startswith("/"):
        raise UsageError("E001", f"{show(text)}: a file:// address has three slashes and an absolute path")
    return path


def is_url(address: object) -> bool:
    """Whether this is ``PROTOCOL://...`` (or a chain of them) and not a place on this machine."""
    return isinstance(address, str) and _URL.fullmatch(address) is not None and not address.startswith("file://")


def parse_url(url: str) -> tuple[str, str]:
    """(protocol, the rest without a slash at its end).

    Raises:
        UsageError: E001 for what names no place, chains protocols, or carries a password.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise UsageError("E001", f"{show(url)} is not a URL")
    protocol, rest = _SAME.get(found[1], found[1]), found[2].rstrip("/")
    if "::" in url:
        raise UsageError("E001", f"{show(url)} chains protocols, which is not supported")
    if "@" in rest.partition("/")[0] and protocol != "hf":
        raise UsageError(
            "E001", f"a {protocol}:// address must not have a user or password; put them into the store's settings"
        )
    if protocol in ("http", "https") and rest.startswith(_HUB):
        name = rest.removeprefix(_HUB).partition("/tree/")[0]
        raise UsageError(
            "E001", f"{show(url)} is a page of the Hugging Face Hub; its dataset is hf://datasets/{show(name)}"
        )
    if protocol == "memory":
        raise UsageError("E001", "memory:// is lost when the process ends; name another place")
    if not rest:
        raise UsageError("E001", f"{show(url)} names no bucket or folder")
    if protocol != "file" and ("//" in rest or rest.startswith("/")):
        raise UsageError("E001", f"{show(url)} has two slashes in a row, which is not supported; write one")
    if "?versionid=" in rest.lower():
        raise UsageError("E001", f"{show(url)} names one version of an object, which is not supported")
    return protocol, rest


def local(address: str | Path) -> Path:
    """The path of an address that must be on this machine.

    Raises:
        UsageError: E001 for a URL.
    """
    if is_url(address):
        raise UsageError("E001", f"{show(address)}: this needs a folder on this machine; copy it here first")
    return Path(plain(address))
