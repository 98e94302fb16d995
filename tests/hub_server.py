"""A Hugging Face Hub on this machine: as much of its API as fetching and publishing a model, and fetching a data set,
need, over plain HTTP. A data set's repository is called "datasets/org/name"."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import huggingface_hub.utils
import pytest
import yaml

Files = dict[str, bytes]
LARGE = (".safetensors", ".bin", ".pkl", ".png", ".parquet", ".tar", ".zip")
"""What the Hub keeps in large file storage."""


class Refusal(Exception):
    """An answer that is an error: a status, and the code by which huggingface_hub tells refusals apart."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message


@dataclass
class Repository:
    """Commits, newest last, each with all files; branches by name."""

    private: bool = False
    gated: bool = False
    commits: list[tuple[str, Files]] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: Files, branch: str = "main", message: str = "") -> str:
        contents = [(name, hashlib.sha1(data).hexdigest()) for name, data in sorted(files.items())]
        digest = hashlib.sha1(f"{len(self.commits)} {message} {contents}".encode()).hexdigest()
        self.commits.append((digest, files))
        self.branches[branch] = digest
        self.messages.append(message)
        return digest

    def find(self, revision: str) -> tuple[str, Files]:
        wanted = self.branches.get(revision, revision)
        for digest, files in self.commits:
            if digest == wanted:
                return digest, files
        raise Refusal(404, "RevisionNotFound", "Invalid rev id")

    @property
    def files(self) -> Files:
        return self.find("main")[1]


@dataclass
class Hub:
    """The server's state, and what it was asked: "METHOD path" without the query."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    writers: set[str] = field(default_factory=lambda: {"hf_writer"})
    readers: set[str] = field(default_factory=lambda: {"hf_reader"})
    storage: Files = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    """A pattern of "METHOD path" → what is answered instead."""
    bodies: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    """A file's name → what is sent instead of its bytes."""

    def publish(self, repo: str, files: Files, **settings: Any) -> Repository:
        self.repositories[repo] = repository = Repository(**settings)
        repository.commit(files, message="initial commit")
        return repository

    def fetched(self) -> set[str]:
        """The names of the files that were fetched."""
        return {one.rpartition("/")[2] for one in self.asked if re.match(r"GET .*/(resolve|cdn)/", one)}


NOWHERE = "http://127.0.0.1:9"


@contextlib.contextmanager
def running_for(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Hub]:
    """Give a Hub that holds nothing yet, and make this process a user of it who can write, with a cache in `home`."""
    for name in ("GANZOO_OFFLINE", "HF_HUB_OFFLINE", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(home / "agents.json"), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a storage protocol of its own, beside plain HTTP
    # What was read when that package was imported leads nowhere: HF_ENDPOINT has to be read at each call.
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", NOWHERE + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    huggingface_hub.utils.disable_progress_bars()
    with running() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
        huggingface_hub.close_session()
    huggingface_hub.utils.enable_progress_bars()


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    """Give a Hub that holds nothing yet."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.block_on_close = False
    hub.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        asked = f"{self.command} {path}"
        self.state.asked.append(asked)
        try:
            for pattern, refusal in self.state.refusals.items():
                if re.search(pattern, asked):
                    raise refusal
            for method, pattern, answer in _ROUTES:
                if method == self.command and (match := re.fullmatch(pattern, path)):
                    answer(self, body, **match.groupdict())
                    return
            raise Refusal(404)
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            self.send(b"{}", refusal.status, {key: value for key, value in headers.items() if value})

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _chunk(self) -> bytes:
        data = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return data

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def send(self, data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(data)

    def say(self, answer: Any, status: int = 200) -> None:
        self.send(json.dumps(answer).encode(), status, {"Content-Type": "application/json"})

    # ------------------------------------------------------------------------------------------------ who may do what

    @property
    def token(self) -> str | None:
        given = self.headers.get("Authorization")
        if given is None:
            return None
        token = given.removeprefix("Bearer ")
        if token not in self.state.writers | self.state.readers:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        return token

    def repository(self, repo: str, *, write: bool = False, content: bool = False) -> Repository:
        token = self.token
        found = self.state.repositories.get(repo)
        if found is None or (found.private and token is None):
            raise Refusal(401 if token is None else 404, "RepoNotFound", "Repository not found")
        if write and token not in self.state.writers:
            raise Refusal(403, "", "You don't have the rights to write to it")
        if content and found.gated and token is None:
            raise Refusal(401, "GatedRepo", "Access to it is restricted")
        return found

    # ------------------------------------------------------------------------------------------------------- reading

    def info(self, body: bytes, repo: str, revision: str = "main") -> None:
        found = self.repository(repo)
        digest, files = found.find(revision)
        siblings = [{"rfilename": name} for name in files]
        self.say({"id": repo, "sha": digest, "private": found.private, "gated": found.gated, "siblings": siblings})

    def tree(self, body: bytes, repo: str, revision: str) -> None:
        _, files = self.repository(repo).find(revision)
        self.say([_entry(name, data) for name, data in files.items()])

    def resolve(self, body: bytes, repo: str, revision: str, name: str) -> None:
        digest, files = self.repository(repo, content=True).find(revision)
        if name not in files:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        data, oid = files[name], _object(name, files[name])
        headers = {"X-Repo-Commit": digest, "ETag": f'"{oid}"'}
        if name.endswith(LARGE):  # they lie on another host
            self.state.storage[oid] = data
            place = f"{self.state.url.replace('127.0.0.1', 'localhost')}/cdn/{oid}/{name}"
            headers |= {"X-Linked-ETag": f'"{oid}"', "X-Linked-Size": str(len(data)), "Location": place}
        self.send(self._body(name, data), 302 if name.endswith(LARGE) else 200, headers)

    def cdn(self, body: bytes, oid: str, name: str) -> None:
        if self.headers.get("Authorization") is not None:
            raise Refusal(400, "", "A token has left the Hub")
        self.send(self._body(name, self.state.storage[oid]))

    def _body(self, name: str, data: bytes) -> bytes:
        return self.state.bodies[name](data) if self.command == "GET" and name in self.state.bodies else data

    # ------------------------------------------------------------------------------------------------------- writing

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        repo = f"{asked['organization']}/{asked['name']}"
        if self.token not in self.state.writers:
            raise Refusal(403, "", "You don't have the rights to create it")
        there = repo in self.state.repositories
        if not there:
            self.state.publish(repo, {".gitattributes": b"*.safetensors"}, private=asked.get("visibility") == "private")
        self.say({"url": f"{self.state.url}/{repo}", "id": repo}, 409 if there else 200)

    def branch(self, body: bytes, repo: str, branch: str) -> None:
        found = self.repository(repo, write=True)
        if branch in found.branches:
            raise Refusal(409)
        found.branches[branch] = found.branches["main"]
        self.say({})

    def validate(self, body: bytes) -> None:
        lines = json.loads(body)["content"].split("---\n")
        try:
            header = yaml.safe_load(lines[1]) if lines[0] == "" and len(lines) > 2 else None
        except yaml.YAMLError as error:
            self.say({"errors": [{"message": str(error)}], "warnings": []}, 400)
            return
        warnings = [] if isinstance(header, dict) else [{"message": "empty or missing yaml metadata in repo card"}]
        self.say({"errors": [], "warnings": warnings})

    def preupload(self, body: bytes, repo: str, revision: str) -> None:
        _, files = self.repository(repo, write=True).find(revision)
        modes = []
        for one in json.loads(body)["files"]:
            name = one["path"]
            mode = "lfs" if name.endswith(LARGE) else "regular"
            oid = _object(name, files[name]) if name in files else None
            modes.append({"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.say({"files": modes})

    def batch(self, body: bytes, repo: str) -> None:
        self.repository(repo, write=True)
        objects = []
        for one in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.state.url}/storage/{one['oid']}"}}
            objects.append(one if one["oid"] in self.state.storage else one | {"actions": upload})
        self.say({"transfer": "basic", "objects": objects})

    def store(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.state.storage[oid] = body
        self.say({})

    def commit(self, body: bytes, repo: str, revision: str) -> None:
        found = self.repository(repo, write=True)
        files = dict(found.find(revision)[1])
        message = ""
        for line in body.splitlines():
            key, value = (one := json.loads(line))["key"], one["value"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.state.storage[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        digest = found.commit(files, revision, message)
        self.say({"success": True, "commitOid": digest, "commitUrl": f"{self.state.url}/{repo}/commit/{digest}"})


def _object(name: str, data: bytes) -> str:
    """What git, or large file storage, calls some bytes."""
    if name.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(name: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": name, "size": len(data), "oid": _object(name, data)[:40]}
    large = {"lfs": {"oid": _object(name, data), "size": len(data), "pointerSize": 134}}
    return entry | (large if name.endswith(LARGE) else {})


_REPO = r"(?P<repo>[^/]+/[^/]+)"
_DATASET = r"(?P<repo>datasets/[^/]+/[^/]+)"
_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", rf"/api/models/{_REPO}", _Handler.info),
    ("GET", rf"/api/models/{_REPO}/revision/(?P<revision>.+)", _Handler.info),
    ("GET", rf"/api/models/{_REPO}/tree/(?P<revision>.+)", _Handler.tree),
    ("GET", rf"/api/{_DATASET}", _Handler.info),
    ("GET", rf"/api/{_DATASET}/revision/(?P<revision>.+)", _Handler.info),
    ("GET", rf"/api/{_DATASET}/tree/(?P<revision>.+)", _Handler.tree),
    ("HEAD", rf"/{_DATASET}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _Handler.resolve),
    ("GET", rf"/{_DATASET}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _Handler.resolve),
    ("HEAD", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _Handler.resolve),
    ("GET", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _Handler.resolve),
    ("GET", r"/cdn/(?P<oid>\w+)/(?P<name>.+)", _Handler.cdn),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", rf"/api/models/{_REPO}/branch/(?P<branch>.+)", _Handler.branch),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", rf"/api/models/{_REPO}/preupload/(?P<revision>.+)", _Handler.preupload),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/storage/(?P<oid>\w+)", _Handler.store),
    ("POST", rf"/api/models/{_REPO}/commit/(?P<revision>.+)", _Handler.commit),
]
