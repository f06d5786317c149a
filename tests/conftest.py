"""Settings and servers that several folders of tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A busy machine is no defect: no example has a deadline. VLA_DATA_EXAMPLES says how many
# examples tests have that do not say it themselves.
settings.register_profile("push", deadline=None, max_examples=int(os.environ.get("VLA_DATA_EXAMPLES", "30")))
settings.load_profile("push")

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
