"""The server of the page: on this machine alone, for who knows its address, and of nothing but one source.

    GET  /TOKEN/                       the page, and what it is made of beside it
    GET  /TOKEN/episodes.json          the list of episodes, and the flags
    GET  /TOKEN/found.json?after=N     entries that were not known at first, from the N-th on
    GET  /TOKEN/episode/POSITION       one episode: numbers, cameras, buckets, values
    GET  /TOKEN/frame/POSITION/CAMERA/STEP   one image
    POST /TOKEN/flags                  {"flags": [POSITION, ...]}

No part of an address is ever a path of a file.
"""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from socketserver import TCPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from vla_data.core import Json, Source
from vla_data.errors import DataError, UsageError, VlaDataError
from vla_data.safety import strict_json
from vla_data.safety.text import show
from vla_data.viewing.beside import Beside
from vla_data.viewing.film import Film
from vla_data.viewing.flags import Flags
from vla_data.viewing.guard import HEADERS, Guard
from vla_data.viewing.shelf import Entry, Shelf
from vla_data.viewing.told import told

LOOPBACK: Final = "127.0.0.1"
_FILES: Final = {
    "": ("index.html", "text/html; charset=utf-8"),
    "view.js": ("view.js", "text/javascript; charset=utf-8"),
    "view.svg": ("view.svg", "image/svg+xml"),
    "view.css": ("view.css", "text/css; charset=utf-8"),
}
_MOST: Final = 1 << 20
_DIGITS: Final = 9


class Viewer:
    """A source behind a page. `serve` answers until `close`.

    Args:
        title: of the page.
        source: any.
        flags: the file of the flags.
        known: what lies beside the source.
        port: 0: a free one.

    Raises:
        OSError: the port is taken.
        UsageError: E001, the file of the flags holds something else.
    """

    def __init__(self, title: str, source: Source, flags: Path, known: Beside, *, port: int = 0) -> None:
        self.title, self.known = title, known
        self.shelf = Shelf(source, known.solved())
        self.film = Film(self.shelf)
        self.flags = Flags(flags, len(self.shelf))
        self._server = _Server((LOOPBACK, port), _Handler)
        self._server.viewer = self
        self.guard = Guard(self._server.server_address[1])
        self.shelf.start()
        self.film.start()

    @property
    def address(self) -> str:
        """The address of the page, with the token."""
        return f"http://{LOOPBACK}:{self._server.server_address[1]}/{self.guard.token}/"

    def serve(self) -> None:
        """Answer, until `close` or an interruption."""
        self._server.serve_forever(poll_interval=0.05)

    def start(self) -> threading.Thread:
        """Answer in a thread of its own, as in a notebook."""
        thread = threading.Thread(target=self.serve, daemon=True, name="vla-data view")
        thread.start()
        return thread

    def close(self) -> None:
        """End, from another thread than that of `serve`."""
        self.shelf.stop()
        self.film.stop()
        self._server.shutdown()
        self._server.server_close()

    def listed(self) -> dict[str, Json]:
        """The list of episodes."""
        return {
            "title": self.title,
            "entries": [_line(entry) for entry in self.shelf.entries],
            "complete": self.shelf.is_complete,
            "flags": list(self.flags.positions),
            "list": self.flags.text,
            "file": str(self.flags.path),
        }

    def found(self, after: int) -> dict[str, Json]:
        """Entries that came later, from a number on."""
        return {
            "entries": [_line(entry) for entry in self.shelf.found[after:]],
            "complete": self.shelf.is_complete,
        }

    def episode(self, position: int) -> dict[str, Json]:
        """One episode, or why it can't be read."""
        try:
            episode, schema = self.shelf.read(position)
        except VlaDataError as error:
            return {"position": position, "error": show(error, escaped=True)}
        self.film.show(position, episode)
        return told(position, episode, schema, self.known)

    def frame(self, position: int, camera: int, step: int) -> tuple[str, bytes] | None:
        """Type and bytes of an image; None where there is none."""
        episode, _ = self.shelf.read(position)
        names = sorted(episode.frames)
        if camera >= len(names) or step >= len(episode):
            return None
        return self.film.picture(position, episode, names[camera], step)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    viewer: Viewer

    def server_bind(self) -> None:
        """Without a look at name servers, which `http.server` takes."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "vla-data"
    sys_version = ""
    timeout = 60
    disable_nagle_algorithm = True  # which waits 40 ms between head and body of an answer
    wbufsize = -1

    def do_GET(self) -> None:
        """See the module."""
        where = self._where()
        if where is not None:
            self._try(self._get, *where)

    def do_POST(self) -> None:
        """See the module."""
        where = self._where()
        if where is None:
            return
        guard = self.server.viewer.guard
        if where[0] != ["flags"]:
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED)
        elif not (
            guard.knows_origin(self.headers.get("Origin")) and guard.knows_token(self.headers.get("X-Token"))
        ):
            self._refuse(HTTPStatus.FORBIDDEN)
        else:
            self._try(self._post)

    def _where(self) -> tuple[list[str], dict[str, list[str]]] | None:
        """What is asked for below the token; None where that was refused."""
        guard = self.server.viewer.guard
        if not guard.knows_host(self.headers.get("Host")):
            self._refuse(HTTPStatus.FORBIDDEN)
            return None
        parts = urlsplit(self.path)
        token, _, rest = parts.path.removeprefix("/").partition("/")
        if not guard.knows_token(token):
            self._refuse(HTTPStatus.NOT_FOUND)
            return None
        return rest.split("/"), parse_qs(parts.query)

    def _try(self, answer: Any, *given: Any) -> None:
        try:
            answer(*given)
        except (UsageError, DataError) as error:
            self._json({"error": show(error, escaped=True)}, HTTPStatus.UNPROCESSABLE_ENTITY)
        except (ConnectionError, TimeoutError):  # the browser went on
            self.close_connection = True
        except Exception as error:  # one answer fails and not the page
            self._json({"error": f"{type(error).__name__}: {show(error)}"}, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _get(self, parts: list[str], query: dict[str, list[str]]) -> None:
        viewer, name = self.server.viewer, "/".join(parts)
        numbers = [int(part) for part in parts[1:] if _is_number(part)]
        whole = len(numbers) == len(parts) - 1 and bool(numbers) and numbers[0] < len(viewer.shelf)
        if name in _FILES:
            file, kind = _FILES[name]
            self._send(kind, (resources.files("vla_data.viewing") / "page" / file).read_bytes())
        elif name == "episodes.json":
            self._json(viewer.listed())
        elif name == "found.json":
            after = query.get("after", ["0"])[0]
            self._json(viewer.found(int(after) if _is_number(after) else 0))
        elif parts[0] == "episode" and whole and len(numbers) == 1:
            self._json(viewer.episode(numbers[0]))
        elif parts[0] == "frame" and whole and len(numbers) == 3:
            found = viewer.frame(*numbers)
            if found is None:
                self._refuse(HTTPStatus.NOT_FOUND)
            else:
                self._send(*found, cache="private, max-age=3600")
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _post(self) -> None:
        flags = self.server.viewer.flags
        size = self.headers.get("Content-Length", "")
        if not _is_number(size) or int(size) > _MOST:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        given = strict_json.loads(self.rfile.read(int(size)), name="flags")
        wanted = given.get("flags") if isinstance(given, dict) else None
        if not isinstance(wanted, list):
            raise UsageError("E001", 'expected {"flags": [POSITION, ...]}')
        flags.set(wanted)
        self._json({"flags": list(flags.positions), "list": flags.text})

    def _json(self, value: Json, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send("application/json", json.dumps(value, allow_nan=False).encode(), status=status)

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True  # what else was sent is not read
        self._send("text/plain; charset=utf-8", f"{status.value} {status.phrase}\n".encode(), status=status)

    def _send(
        self, kind: str, data: bytes, *, status: HTTPStatus = HTTPStatus.OK, cache: str | None = None
    ) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, cache if cache is not None and name == "Cache-Control" else value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is for the person, and addresses have the token."""


def _is_number(text: str) -> bool:
    """Whether this is a whole number of a size that something here may have."""
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS


def _line(entry: Entry) -> list[Json]:
    return [entry.position, entry.id, entry.steps, entry.task, entry.success, entry.error]
