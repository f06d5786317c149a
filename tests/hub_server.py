"""A stand-in for the Hugging Face Hub on loopback: the part of its HTTP API that sending a dataset needs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

READS = ("/preupload/main", "/validate-yaml", "/objects/batch")
"""Requests that ask, though they are no GET."""

LARGE = (".parquet", ".mp4", ".hdf5", ".tar")
"""What goes to large-file storage, as the Hub's own .gitattributes says for datasets."""


@dataclass
class Hub:
    """Its state, which tests read and disturb.

    Attributes:
        repos: repository -> path -> content.
        large: SHA-256 -> content that was uploaded.
        commits: ids in order, by repository.
        tags: repository -> tag -> commit.
        private: repository -> whether it is.
        asked: method and path of every request.
        fail: status to answer from the `after`-th request that writes on.
        after: how many requests that write still work.
    """

    url: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    commits: dict[str, list[str]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fail: int = 0
    after: int = 0

    def written(self) -> list[str]:
        """The requests that wrote."""
        return [line for line in self.asked if not line.startswith("GET") and not line.endswith(READS)]


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            out = b""
            while size := int(self.rfile.readline(), 16):
                out += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return out
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do(self) -> None:
        hub, path = self.hub, unquote(urlparse(self.path).path)
        data = self.body()
        hub.asked.append(f"{self.command} {path}")
        if hub.fail and self.command in ("POST", "PUT") and not path.endswith(READS):
            hub.after -= 1
            if hub.after < 0:
                return self.answer({"error": "the stand-in was told to fail"}, hub.fail)
        for pattern, action in ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                return action(self, data, *found.groups())
        return self.answer({"error": f"no such page: {path}"}, 404)

    do_GET = do_POST = do_PUT = do_DELETE = do  # noqa: N815

    def create(self, data: bytes) -> None:
        told = json.loads(data)
        repo = "/".join(filter(None, (told.get("organization"), told["name"])))
        assert told["type"] == "dataset"
        if repo in self.hub.repos:
            return self.answer({"error": "it is there", "url": f"{self.hub.url}/datasets/{repo}"}, 409)
        self.hub.repos[repo] = {".gitattributes": b"*.parquet filter=lfs\n"}
        self.hub.commits[repo], self.hub.tags[repo] = ["0" * 40], {}
        self.hub.private[repo] = bool(told.get("private")) or told.get("visibility") == "private"
        return self.answer({"url": f"{self.hub.url}/datasets/{repo}", "name": repo, "id": repo})

    def tree(self, data: bytes, repo: str, revision: str) -> None:
        out = []
        for path, content in self.hub.repos[repo].items():
            digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry = {"type": "file", "path": path, "size": len(content), "oid": digest}
            if path.endswith(LARGE):
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
            out.append(entry)
        return self.answer(out)

    def info(self, data: bytes, repo: str) -> None:
        if repo not in self.hub.repos:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        return self.answer({"id": repo, "sha": self.hub.commits[repo][-1], "siblings": [], "tags": []})

    def validate(self, data: bytes) -> None:
        """What the Hub says of a card's YAML."""
        import yaml

        told = json.loads(data)
        assert told["repoType"] == "dataset"
        parts = told["content"].split("---\n")
        try:
            found = yaml.safe_load(parts[1]) if len(parts) > 2 else {}
        except yaml.YAMLError as error:
            return self.answer({"errors": [{"message": str(error)}], "warnings": []}, 400)
        warnings = [] if "license" in found else [{"message": "empty or missing license"}]
        return self.answer({"errors": [], "warnings": warnings})

    def refs(self, data: bytes, repo: str) -> None:
        def told(kind: str, names: dict[str, str]) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": c} for n, c in names.items()]

        branches = told("heads", {"main": self.hub.commits[repo][-1]})
        return self.answer({"branches": branches, "converts": [], "tags": told("tags", self.hub.tags[repo])})

    def preupload(self, data: bytes, repo: str, revision: str) -> None:
        files = json.loads(data)["files"]
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in files
        ]
        return self.answer({"files": modes, "commitOid": self.hub.commits[repo][-1]})

    def batch(self, data: bytes, repo: str) -> None:
        objects = []
        for one in json.loads(data)["objects"]:
            told = {"oid": one["oid"], "size": one["size"], "authenticated": True}
            if one["oid"] not in self.hub.large:
                told["actions"] = {"upload": {"href": f"{self.hub.url}/store/{one['oid']}", "header": {}}}
            objects.append(told)
        return self.answer({"transfer": "basic", "objects": objects})

    def store(self, data: bytes, digest: str) -> None:
        if hashlib.sha256(data).hexdigest() != digest:
            return self.answer({"error": "other bytes than were promised"}, 400)
        self.hub.large[digest] = data
        return self.answer({})

    def commit(self, data: bytes, repo: str, revision: str) -> None:
        files = dict(self.hub.repos[repo])
        for line in data.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        self.hub.repos[repo] = files
        commit = hashlib.sha1(f"{repo}{len(self.hub.commits[repo])}".encode()).hexdigest()
        self.hub.commits[repo].append(commit)
        url = f"{self.hub.url}/datasets/{repo}/commit/{commit}"
        return self.answer({"success": True, "commitUrl": url, "commitOid": commit, "hookOutput": ""})

    def tag(self, data: bytes, repo: str, revision: str) -> None:
        name = json.loads(data)["tag"]
        if name in self.hub.tags[repo]:
            return self.answer({"error": "the tag is there"}, 409)
        self.hub.tags[repo][name] = self.hub.commits[repo][-1]
        return self.answer({})

    def untag(self, data: bytes, repo: str, name: str) -> None:
        del self.hub.tags[repo][name]
        return self.answer({})


_NAME = r"([^/]+/[^/]+)"
ROUTES: list[tuple[str, Any]] = [
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.validate),
    (rf"GET /api/datasets/{_NAME}/tree/([^/]+)/?", Handler.tree),
    (rf"GET /api/datasets/{_NAME}(?:/revision/[^/]+)?", Handler.info),
    (rf"GET /api/datasets/{_NAME}/refs", Handler.refs),
    (rf"POST /api/datasets/{_NAME}/preupload/([^/]+)", Handler.preupload),
    (rf"POST /(?:datasets/)?{_NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (r"PUT /store/([0-9a-f]{64})", Handler.store),
    (rf"POST /api/datasets/{_NAME}/commit/([^/]+)", Handler.commit),
    (rf"POST /api/datasets/{_NAME}/tag/([^/]+)", Handler.tag),
    (rf"DELETE /api/datasets/{_NAME}/tag/([^/]+)", Handler.untag),
]


@contextmanager
def serve() -> Iterator[Hub]:
    """A Hub that is there until the end."""
    hub = Hub()
    handler = type("Bound", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
