"""An S3 server on loopback, and stores to run a test on. The server is moto's, which speaks the real protocol."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """An S3 server in a process of its own with the bucket ``bucket``; its URL, also in the environment."""
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    host, port = server.stdout.readline().split()
    url = f"http://{host}:{port}"
    _forget_connections()
    old = {name: os.environ.get(name) for name in (*KEYS, "AWS_ENDPOINT_URL")}
    os.environ.update(KEYS, AWS_ENDPOINT_URL=url)
    try:
        request = urllib.request.Request(f"{url}/bucket", method="PUT")
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(request, timeout=10).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield url
    finally:
        server.kill()
        server.wait()
        _forget_connections()
        for name, value in old.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _forget_connections() -> None:
    """s3fs keeps clients for as long as the process lives, and each knows the server of its first day."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def put_tree(folder: Path, url: str) -> None:
    """Upload a folder."""
    from vla_data.remote.storage import Storage

    storage = Storage(url)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        storage.upload(path, path.relative_to(folder).as_posix())


def get_tree(url: str) -> dict[str, bytes]:
    """Name -> content of everything below an address."""
    from vla_data.remote.storage import Storage

    storage = Storage(url)
    return {name: storage.read(name) for name in storage.files()}


def local_tree(folder: Path) -> dict[str, bytes]:
    """The same of a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
