"""A Messages API on loopback that answers what a test wants, for the real `claude`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TEXT = [{"type": "text", "text": "the answer"}]


class FakeMessages:
    """What the API answers to the next requests; change `status` and `content` as needed."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.error: dict[str, Any] = {}
        self.contents: list[list[dict[str, Any]]] = []
        self.requests: list[dict[str, Any]] = []
        self.is_silent = threading.Event()
        self.url = ""

    def content(self) -> list[dict[str, Any]]:
        return self.contents.pop(0) if self.contents else TEXT


@contextmanager
def fake_messages() -> Iterator[FakeMessages]:
    """Serves until the end of the block."""
    fake = FakeMessages()
    ending = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - the base's name

        def do_HEAD(self) -> None:
            self._answer(200, {}, b"", "text/plain")

        def do_GET(self) -> None:
            self._answer(404, {}, b"{}", "application/json")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            fake.requests.append(body)
            if "count_tokens" in self.path:
                self._answer(200, {}, b'{"input_tokens": 10}', "application/json")
            elif "/v1/messages" not in self.path:
                self._answer(404, {}, b"{}", "application/json")
            elif fake.is_silent.is_set():
                ending.wait(30)
            elif fake.status != 200:
                data = json.dumps({"type": "error", "error": fake.error}).encode()
                self._answer(fake.status, fake.headers, data, "application/json")
            else:
                self._stream(body.get("model", "claude"), fake.content())

        def _stream(self, model: str, content: list[dict[str, Any]]) -> None:
            data = "".join(
                f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
                for event in _events(model, content)
            )
            self._answer(200, fake.headers, data.encode(), "text/event-stream")

        def _answer(self, status: int, headers: dict[str, str], data: bytes, kind: str) -> None:
            self.send_response(status)
            for name, value in {"content-type": kind, "request-id": "req_1", **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        ending.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _events(model: str, content: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    usage = {"input_tokens": 1000, "output_tokens": 1}
    usage |= {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    is_tool = any(block["type"] == "tool_use" for block in content)
    message = {"id": f"msg_{id(content)}", "type": "message", "role": "assistant", "model": model}
    message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    yield {"type": "message_start", "message": message}
    for index, block in enumerate(content):
        yield {"type": "content_block_start", "index": index, "content_block": _head(block)}
        yield {"type": "content_block_delta", "index": index, "delta": _delta(block)}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": "tool_use" if is_tool else "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 50}}
    yield {"type": "message_stop"}


def _head(block: dict[str, Any]) -> dict[str, Any]:
    return block | ({"text": ""} if block["type"] == "text" else {"input": {}})


def _delta(block: dict[str, Any]) -> dict[str, Any]:
    if block["type"] == "text":
        return {"type": "text_delta", "text": block["text"]}
    return {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
