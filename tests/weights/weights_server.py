"""A small web server on this machine, whose answers a test chooses."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """Where it is, the paths that were asked for, and the answers: path → what is said."""

    url: str
    asked: list[str] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)


@contextlib.contextmanager
def running(folder: Path | None = None) -> Iterator[Server]:
    """Give a server that has the files of a folder; what has an answer is answered by that instead."""
    server = Server("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            if self.path in server.answers:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    server.answers[self.path](self)
                return
            file = None if folder is None else folder / self.path.lstrip("/")
            if file is None or not file.is_file():
                self.send_error(404)
                return
            give(file.read_bytes())(self)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.block_on_close = False
    server.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def give(data: bytes, *, announced: int | None = None) -> Answer:
    """Return the answer that is these bytes, with a length that may be a lie."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) if announced is None else announced))
        handler.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            handler.wfile.write(data)

    return answer


def stream(blocks: Iterator[bytes]) -> Answer:
    """Return the answer that sends blocks as they come, and no length."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for block in blocks:
            handler.wfile.write(block)
            handler.wfile.flush()

    return answer


def redirect(to: str) -> Answer:
    """Return the answer that it lies elsewhere."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer
