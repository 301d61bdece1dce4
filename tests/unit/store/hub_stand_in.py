"""A stand-in for the hub: its HTTP API for model repositories, as far as huggingface_hub calls it, on this machine.

Files are sent within the commit, as the hub lets small ones be. Large-file storage is not stood in for: how a file
is sent is decided by the server and carried out by huggingface_hub.
"""

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
from urllib.parse import unquote, urlsplit

OWNER_TOKEN, READER_TOKEN = "hf_owner", "hf_reader"
API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/(?P<what>[a-z]+)/(?P<revision>[^/?]+))?")
FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")


@dataclass
class Repository:
    """A repository: its files by branch, and who may see it, or its name alone (`gated`)."""

    private: bool = False
    gated: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})

    def files(self, revision: str) -> dict[str, bytes] | None:
        """The files of a branch, or of the commit that a branch stands at."""
        for branch, files in self.branches.items():
            if revision in (branch, self.commit(branch)):
                return files
        return None

    def commit(self, branch: str) -> str:
        """What stands for the branch's commit: a digest of its name and files."""
        return hashlib.sha1(repr((branch, sorted(self.branches[branch].items()))).encode()).hexdigest()


class Hub(ThreadingHTTPServer):
    """The server; `repositories` is what it holds, `requests` what it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.broken = False

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that runs within a block."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *arguments: Any) -> None:
        """Nothing is printed."""

    def do_HEAD(self) -> None:
        self._download()

    def do_GET(self) -> None:
        asked = API.match(self.path)
        if asked is None:
            self._download()
        elif (found := self._visible(asked["repo"], unquote(asked["revision"] or "main"))) is not None:
            repository, files = found
            branch = next(name for name, held in repository.branches.items() if held is files)
            if asked["what"] != "tree":
                self._answer(200, {"id": asked["repo"], "sha": repository.commit(branch), "siblings": []})
            else:
                tree = [
                    {"type": "file", "path": name, "size": len(data), "oid": _oid(data)} for name, data in files.items()
                ]
                self._answer(200, tree)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = urlsplit(self.path).path
        if path == "/api/validate-yaml":
            self.server.requests.append(f"POST {path}")
            self._answer(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif asked := API.match(path):
            self._write(asked, body)

    def _create(self, wanted: dict[str, Any]) -> None:
        self.server.requests.append("POST /api/repos/create")
        name = f"{wanted['organization']}/{wanted['name']}"
        if self._token() != OWNER_TOKEN:
            self._answer(403, {"error": "You don't have the rights to create a model under this namespace"})
        elif name in self.server.repositories:
            self._answer(409, {"error": "You already created this model repo", "url": f"{self.server.endpoint}/{name}"})
        else:
            self.server.repositories[name] = Repository(private=wanted.get("visibility") == "private")
            self._answer(200, {"url": f"{self.server.endpoint}/{name}"})

    def _write(self, asked: re.Match[str], body: bytes) -> None:
        repo, what, revision = asked["repo"], asked["what"], unquote(asked["revision"])
        self.server.requests.append(f"POST {repo} {what} {revision}")
        repository = self.server.repositories[repo]
        if self._token() != OWNER_TOKEN:
            self._answer(403, {"error": "Forbidden"})
        elif what == "branch":
            known = revision in repository.branches
            repository.branches.setdefault(revision, dict(repository.branches["main"]))
            self._answer(409 if known else 200, {})
        elif what == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            self._answer(200, {"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        elif what == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    repository.branches[revision][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = repository.commit(revision)
            self._answer(200, {"commitUrl": f"{self.server.endpoint}/{repo}/commit/{commit}", "commitOid": commit})

    def _download(self) -> None:
        asked = FILE.match(unquote(urlsplit(self.path).path))
        assert asked is not None, self.path
        found = self._visible(asked["repo"], asked["revision"])
        if found is None:
            return
        repository, files = found
        if repository.gated:
            self._answer(403, {"error": "Access to this model is restricted"}, {"X-Error-Code": "GatedRepo"})
            return
        if asked["name"] not in files:
            self._answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        data = files[asked["name"]]
        self._send(200, data, {"ETag": f'"{_oid(data)}"', "X-Repo-Commit": asked["revision"]})

    def _visible(self, repo: str, revision: str) -> tuple[Repository, dict[str, bytes]] | None:
        """A repository and the files of a revision; answers itself if the caller may not see them."""
        self.server.requests.append(f"{self.command} {self.path}")
        repository = self.server.repositories.get(repo)
        files = None if repository is None else repository.files(revision)
        if self.server.broken:
            self._answer(500, {"error": "Internal"})
        elif repository is None or (repository.private and self._token() not in (OWNER_TOKEN, READER_TOKEN)):
            self._answer(401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif files is None:
            self._answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        else:
            return repository, files
        return None

    def _token(self) -> str:
        return (self.headers["Authorization"] or "").removeprefix("Bearer ")

    def _answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
