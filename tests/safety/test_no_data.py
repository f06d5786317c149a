"""Files that are something else than their names promise are called what they are."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from vla_data import open_source
from vla_data.errors import DataError
from vla_data.safety.files import no_data

HEADS = {
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
    "page": (b"<!DOCTYPE html>\n<html><body>404</body></html>", "a web page"),
    "small page": (b"\n  <html lang='en'>", "a web page"),
    "page with a mark": (b"\xef\xbb\xbf<!doctype HTML>", "a web page"),
    "refusal of a store": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page"),
    "gzip": (gzip.compress(b"x" * 100), "compressed by gzip"),
}
DATA = [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY", b"PAR1", b"{}", b"<", b"\x1f\x8b", b"<htm"]


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("name", ["a.npz", "a.hdf5"])
def test_what_stands_in_the_place_of_data_is_named(tmp_path: Path, kind: str, name: str) -> None:
    head, said = HEADS[kind]
    (tmp_path / name).write_bytes(head)
    source = open_source(tmp_path)
    with pytest.raises(DataError, match=f"E105 truncated: .*{said}"):
        source.read(source.episodes()[0])


@pytest.mark.parametrize("head", DATA)
def test_data_are_not_mistaken(head: bytes) -> None:
    assert no_data(head) == ""


@pytest.mark.parametrize("data", [b"\0" * 4096, b"plain text", b"\x89HDF"])
def test_a_file_without_the_signature_is_no_hdf5_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(data)
    source = open_source(tmp_path)
    with pytest.raises(DataError, match=r"E105 .*not an HDF5 file: it has no signature"):
        source.read(source.episodes()[0])
