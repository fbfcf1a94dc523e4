"""An attempt's output and the streams that feed it."""

from __future__ import annotations

import asyncio
import io
import threading

from fleetlog.agents.executors.output import FLUSH_AT_CHARS, AttemptOutput
from fleetlog.agents.executors.streams import AttemptStream, current_output
from fleetlog.bus.system import SystemClock
from fleetlog.schemas.beats import OutputChunk


class Sent:
    """What arrives, and a gate that drains wait at."""

    def __init__(self) -> None:
        self.packs: list[list[OutputChunk]] = []
        self.came = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.output = AttemptOutput(self._take, self._drain, SystemClock())

    def _take(self, chunks: list[OutputChunk]) -> None:
        self.packs.append(chunks)
        self.came.set()

    async def _drain(self) -> None:
        await self.gate.wait()

    def pieces(self) -> list[tuple[str, str]]:
        return [(chunk.stream, chunk.text) for pack in self.packs for chunk in pack]


async def test_neighbours_of_one_stream_leave_together_after_a_while() -> None:
    sent = Sent()
    for number in range(3):
        sent.output.write("stdout", f"{number}\n")
    sent.output.write("stderr", "x\n")
    sent.output.write("log", "a\n")
    sent.output.write("log", "b\n")
    assert sent.packs == []
    await sent.came.wait()
    assert len(sent.packs) == 1
    assert sent.pieces() == [
        ("stdout", "0\n1\n2\n"),
        ("stderr", "x\n"),
        ("log", "a\n"),
        ("log", "b\n"),
    ]
    sent.came.clear()
    sent.output.write("stdout", "again\n")
    await sent.came.wait()
    assert sent.pieces()[-1] == ("stdout", "again\n")


async def test_much_output_leaves_at_once_in_packs_of_limited_size() -> None:
    sent = Sent()
    sent.output.write("stdout", "x" * (3 * FLUSH_AT_CHARS + 5))
    sizes = [sum(len(chunk.text) for chunk in pack) for pack in sent.packs]
    assert sizes == [FLUSH_AT_CHARS] * 3 + [5]


async def test_many_empty_pieces_are_much_too() -> None:
    sent = Sent()
    for number in range(10_000):
        sent.output.write("progress", "", number / 100)
    assert sent.packs
    sent.output.close()
    assert sum(map(len, sent.packs)) == 10_000
    assert max(map(len, sent.packs)) <= 2048


async def test_a_thread_waits_while_nobody_takes_its_output() -> None:
    sent = Sent()
    sent.gate.clear()
    passed = threading.Event()

    def flood() -> None:
        for _ in range(8):
            sent.output.write("stdout", "x" * 40_000)
        passed.set()

    thread = threading.Thread(target=flood)
    thread.start()
    await sent.came.wait()
    assert not passed.is_set()
    sent.gate.set()
    await asyncio.to_thread(thread.join)
    sent.output.close()
    assert sum(len(text) for _, text in sent.pieces()) == 320_000


async def test_a_line_printed_in_parts_is_one_line() -> None:
    sent = Sent()
    sent.output.print("stdout", "a ")
    sent.output.print("stderr", "b ")
    sent.output.print("stdout", "c\nd")
    sent.output.flush_print("stderr")
    sent.output.flush_print("stderr")
    sent.output.print("stdout", "")
    sent.output.close()
    assert sent.pieces() == [("stdout", "a c\n"), ("stderr", "b "), ("stdout", "d")]


async def test_an_endless_line_is_not_held_for_ever() -> None:
    sent = Sent()
    sent.output.print("stdout", "x" * (FLUSH_AT_CHARS + 1))
    assert sent.packs


async def test_streams_belong_to_the_running_attempt_or_to_their_fallback() -> None:
    fallback = io.StringIO()
    stream = AttemptStream("stdout", fallback)
    first, second = Sent(), Sent()

    async def speak(sent: Sent, name: str) -> None:
        current_output.set(sent.output)
        for _ in range(3):
            print(name, file=stream)
            await asyncio.sleep(0)
        stream.buffer.write(b"bytes\n")
        stream.buffer.flush()
        sent.output.close()

    await asyncio.gather(speak(first, "one"), speak(second, "two"))
    assert first.pieces() == [("stdout", "one\none\none\nbytes\n")]
    assert second.pieces() == [("stdout", "two\ntwo\ntwo\nbytes\n")]
    print("nobody", file=stream, flush=True)
    assert fallback.getvalue() == "nobody\n"
    assert (stream.encoding, stream.errors) == ("utf-8", "replace")
    assert stream.writable()
    assert stream.buffer.writable()
    assert not stream.isatty()
