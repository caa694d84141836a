"""A file server of our own: ranges, redirects, a hub's listing, and ways to fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Server:
    """What is served, how it misbehaves, and which requests came."""

    files: dict[str, bytes]
    ranges: bool = True
    drop_after: int | None = None  # bytes of an answer that get through before the connection ends
    failures: list[int] = field(default_factory=list)  # status codes to answer with first
    tags: Iterator[str] | None = None  # an ETag for each answer
    too_many: int = 0  # bytes sent beyond those asked for
    too_late: int = 0  # bytes by which an answer begins after what was asked for
    hub: dict[str, list[dict[str, object]]] = field(default_factory=dict)  # pages of listings
    moved: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)  # where, and headers
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """`server` at work on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet, or each answer waits for an acknowledgement

        def log_message(self, *about: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            path, sent = self.path, self.headers.get("Range")
            server.requests.append((path, sent, self.headers.get("Authorization")))
            if server.failures:
                return self.answer(server.failures.pop(0), b"")
            if path in server.hub:
                links = {"Link": f'<{server.url}{path}&page=2>; rel="next"'}
                more = f"{path}&page=2" in server.hub
                return self.answer(
                    200, json.dumps(server.hub[path]).encode(), links if more else {}
                )
            if path in server.moved:
                where, said = server.moved[path]
                return self.answer(302, b"", {"Location": where, **said})
            content = server.files.get(urlsplit(path).path)
            if content is None:
                return self.answer(404, b"")
            tag = {"ETag": next(server.tags)} if server.tags else {"ETag": '"1"'}
            if not server.ranges or sent is None:
                return self.answer(200, content, tag)
            begin, _, end = sent.removeprefix("bytes=").partition("-")
            first, last = int(begin), int(end or len(content) - 1)
            if first >= len(content):
                return self.answer(416, b"")
            first += server.too_late
            part = content[first : last + 1 + server.too_many]
            where = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
            return self.answer(206, part, {"Content-Range": where, **tag})

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if server.drop_after is not None and len(body) > server.drop_after:
                self.wfile.write(body[: server.drop_after])
                self.close_connection = True
                return
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
