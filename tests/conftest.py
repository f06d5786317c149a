"""Tests keep their notes about sources to themselves; see `vla_data.jobs.whereabouts`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A busy machine is no defect: no example has a deadline.
settings.register_profile("no deadlines", deadline=None)
settings.load_profile("no deadlines")

os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="vla-data-tests-")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The bucket of an S3 server on loopback."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    from tests.stores import s3_server

    with s3_server():
        yield "s3://bucket"
