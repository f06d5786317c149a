"""Settings and servers that several folders of tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A busy machine is no defect: no example has a deadline.
settings.register_profile("no deadlines", deadline=None)
settings.load_profile("no deadlines")

# A shell's background jobs ignore it, and so would the runs that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The bucket of an S3 server on loopback."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    from tests.stores import s3_server

    with s3_server():
        yield "s3://bucket"
