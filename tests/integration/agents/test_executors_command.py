"""Commands in a real worker process."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from support.workers import Running, command_run, is_alive, pool, run_one

from fleetlog.agents.frames import Deferred, Failed, Run, Stopped, Succeeded
from fleetlog.agents.pool import WorkerPool
from fleetlog.schemas.events import Usage


@pytest.fixture
async def workers() -> AsyncIterator[WorkerPool]:
    os.environ["FLEETLOG_TEST_PASSED"] = "yes"
    os.environ["SECRET_TOKEN"] = "hush"
    try:
        async with pool(concurrency=8, stop_s=0.3, pass_env=("FLEETLOG_TEST_*",)) as running:
            yield running
    finally:
        del os.environ["FLEETLOG_TEST_PASSED"], os.environ["SECRET_TOKEN"]


def result(outcome: object) -> object:
    assert isinstance(outcome, Succeeded), outcome
    return msgspec.json.decode(outcome.result)


def python(code: str) -> tuple[str, str, str]:
    return sys.executable, "-c", code


async def test_output_is_the_result_where_there_is_no_result_line(workers: WorkerPool) -> None:
    done, heard = await run_one(workers, command_run("sh", "-c", "echo one; echo two; echo x >&2"))
    assert result(done.outcome) == "one\ntwo"
    assert done.exit_code == 0
    assert heard.text("stdout") == "one\ntwo\n"
    assert heard.text("stderr") == "x\n"


async def test_a_command_reads_its_document_and_then_the_end_of_its_stdin(
    workers: WorkerPool, tmp_path: Path
) -> None:
    payload = {"text": "x" * 200_000}
    run = command_run(
        "cat", stdin=payload, cwd=str(tmp_path), deadline=datetime(2030, 1, 1, tzinfo=UTC)
    )
    _, heard = await run_one(workers, run)
    assert msgspec.json.decode(heard.text("stdout")) == {
        "v": 1,
        "task_id": run.task_id,
        "attempt": 1,
        "kind": "test",
        "payload": payload,
        "deadline": "2030-01-01T00:00:00Z",
        "workdir": str(tmp_path),
    }


async def test_a_command_need_not_read_its_stdin(workers: WorkerPool) -> None:
    done, _ = await run_one(workers, command_run("true", stdin="x" * 500_000))
    assert done.outcome == Succeeded(b'""')


async def test_the_environment_is_an_allow_list_and_what_the_task_adds(
    workers: WorkerPool, tmp_path: Path
) -> None:
    run = command_run(
        *("env", "-0"),
        env={"MINE": "1", "FLEETLOG_TASK_ID": "forged"},
        cwd=str(tmp_path),
        attempt=2,
        deadline=datetime(2030, 1, 1, tzinfo=UTC),
        traceparent="00-a-b-01",
    )
    _, heard = await run_one(workers, run)
    seen = dict(item.split("=", 1) for item in heard.text("stdout").split("\0") if item)
    ours = {
        "MINE": "1",
        "FLEETLOG_TASK_ID": run.task_id,
        "FLEETLOG_ATTEMPT": "2",
        "FLEETLOG_FENCE": str(run.fence),
        "FLEETLOG_WORKDIR": str(tmp_path),
        "FLEETLOG_DEADLINE": "2030-01-01T00:00:00+00:00",
        "FLEETLOG_TEST_PASSED": "yes",
        "TRACEPARENT": "00-a-b-01",
        "PATH": os.environ["PATH"],
    }
    assert ours.items() <= seen.items()
    assert "SECRET_TOKEN" not in seen
    assert not any(name.startswith("PYTHON") for name in seen)


async def test_the_tasks_own_path_finds_the_program(workers: WorkerPool, tmp_path: Path) -> None:
    program = tmp_path / "my-program"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    run = command_run("my-program", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert result((await run_one(workers, run))[0].outcome) == "found"


async def test_lines_of_the_contract_are_read_and_others_are_output(workers: WorkerPool) -> None:
    lines = [
        '{"type":"log","msg":"working","level":"warn"}',
        '{"type":"progress","pct":40,"msg":"40 of 100"}',
        '{"type":"usage","input_tokens":10,"output_tokens":2,"cost_usd":0.25,"model":"m"}',
        '{"type":"usage","input_tokens":5}',
        '{"type":"heartbeat"}',
        "plain",
        '{"type":"metric","name":"n","value":1}',
        '{"type":"result","status":"ok","output":"first"}',
        '{"type":"result","status":"ok","output":{"answer":42}}',
    ]
    run = command_run("printf", "%s\\n", *lines)
    slot = await workers.acquire()
    alive = asyncio.Event()
    running = Running(slot.worker, run, on_alive=alive.set)
    done = await running.done()
    assert result(done.outcome) == {"answer": 42}
    assert done.usage == Usage(input_tokens=15, output_tokens=2, cost_micro_usd=250_000, model="m")
    assert alive.is_set()
    assert [(c.stream, c.text, c.pct) for c in running.heard.chunks] == [
        ("log", "warn: working\n", None),
        ("progress", "40 of 100", 40.0),
        ("stdout", "plain\n" + lines[6] + "\n", None),
    ]


async def test_a_last_line_without_an_end_counts(workers: WorkerPool) -> None:
    run = command_run("printf", '{"type":"result","status":"ok","output":7}')
    assert result((await run_one(workers, run))[0].outcome) == 7


async def test_a_line_of_json_written_in_two_goes_is_one_line(workers: WorkerPool) -> None:
    script = """printf '{"type":"result",'; sleep 1.3; echo '"status":"ok","output":7}'"""
    assert result((await run_one(workers, command_run("sh", "-c", script)))[0].outcome) == 7


async def test_unfinished_text_shows_after_a_second(workers: WorkerPool) -> None:
    slot = await workers.acquire()
    running = Running(slot.worker, command_run("sh", "-c", "printf '10 %%...'; sleep 60"))
    await running.heard.until("10 %...")
    slot.worker.stop(running.run.run_id, "cancel")
    await running.done()


async def test_fifty_megabytes_in_one_line_pass_in_pieces(workers: WorkerPool) -> None:
    code = "import sys\nfor _ in range(500): sys.stdout.write('z' * 100_000)"
    done, heard = await run_one(workers, command_run(*python(code)))
    assert sum(len(chunk.text) for chunk in heard.chunks) == 50_000_000
    assert max(len(chunk.text) for chunk in heard.chunks) <= 65_536
    tail = result(done.outcome)
    assert isinstance(tail, str)
    assert set(tail) == {"z"}
    assert len(tail) == 65_534


async def test_many_short_lines_arrive_in_order_from_both_streams(workers: WorkerPool) -> None:
    code = "import sys\nfor n in range(100_000): print(n)\nfor n in range(1000): print(n, file=sys.stderr)"
    _, heard = await run_one(workers, command_run(*python(code)))
    assert heard.text("stdout") == "".join(f"{n}\n" for n in range(100_000))
    assert heard.text("stderr") == "".join(f"{n}\n" for n in range(1000))
    assert all(chunk.text.endswith("\n") for chunk in heard.chunks)


async def test_a_slow_reader_slows_the_command_and_loses_nothing(workers: WorkerPool) -> None:
    slot = await workers.acquire()
    code = "import sys\nfor n in range(10): sys.stdout.write('line of text\\n' * 100_000)"
    running = Running(slot.worker, command_run(*python(code)))
    await running.heard.until("line")
    slot.worker.wire.pause_reading()
    # Longer than what a command's pipes get after its end.
    await asyncio.sleep(2.5)
    slot.worker.wire.resume_reading()
    assert (await running.done()).exit_code == 0
    assert len(running.heard.text()) == 10 * 100_000 * 13


async def test_bytes_that_are_not_text_are_replaced(workers: WorkerPool) -> None:
    code = r"import sys; sys.stdout.buffer.write(b'a\xff\xfe\x00b\n{\"type\":\"log\",\"msg\":\"\xff\"}\n')"
    done, heard = await run_one(workers, command_run(*python(code)))
    assert heard.text("stdout") == "a\ufffd\ufffd\0b\n"
    assert heard.text("log") == "info: \ufffd\n"
    assert result(done.outcome) == "a\ufffd\ufffd\0b"


async def test_exit_codes_reach_the_outcome(workers: WorkerPool) -> None:
    done, _ = await run_one(workers, command_run("sh", "-c", "echo why >&2; exit 7"))
    assert done.outcome == Failed("error", "the command ended with code 7\nwhy")
    assert done.exit_code == 7
    done, _ = await run_one(workers, command_run("sh", "-c", "exit 75"))
    assert done.outcome == Deferred("the command ended with code 75", 30_000)
    done, _ = await run_one(workers, command_run("sh", "-c", "kill -9 $$"))
    assert done.outcome == Failed("error", "the command was ended by SIGKILL")
    assert done.exit_code == -9


@pytest.mark.parametrize(
    ("args", "error_class", "text"),
    [
        ({"argv": ["no-such-program"]}, "permanent", "no such program in PATH"),
        ({"argv": ["/etc/passwd"]}, "permanent", "it may not be executed"),
        ({"argv": ["true"], "cwd": "/no/such/folder"}, "permanent", "/no/such/folder is not there"),
        ({"argv": []}, "invalid_input", "$.argv"),
        ({"argv": ["a\0b"]}, "invalid_input", "$.argv"),
        ({"argv": ["true"], "env": {"A=B": "x"}}, "invalid_input", "$.env"),
        ({"argv": "true"}, "invalid_input", "$.argv"),
        ({"argv": ["true"], "shell": True}, "invalid_input", "unknown field `shell`"),
        ({}, "invalid_input", "missing required field `argv`"),
        ({"argv": ["true", "x" * 300_000]}, "permanent", "Argument list too long"),
    ],
)
async def test_a_command_that_cannot_start_fails_for_good_and_says_why(
    workers: WorkerPool, args: object, error_class: str, text: str
) -> None:
    run = msgspec.structs.replace(command_run("x"), args=msgspec.json.encode(args))
    done, _ = await run_one(workers, run)
    assert isinstance(done.outcome, Failed)
    assert (done.outcome.error_class, done.outcome.is_permanent) == (error_class, True)
    assert text in done.outcome.error


async def test_a_stop_ends_the_whole_group_and_keeps_the_output(workers: WorkerPool) -> None:
    slot = await workers.acquire()
    script = "sleep 60 & echo $!; trap 'echo caught; exit 0' TERM INT; wait"
    running = Running(slot.worker, command_run("sh", "-c", script))
    await running.heard.until("\n")
    child = int(running.heard.text())
    slot.worker.stop(running.run.run_id, "timeout")
    done = await running.done()
    assert done.outcome == Stopped()
    assert done.exit_code == 0
    assert "caught" in running.heard.text()
    assert not is_alive(child)


async def test_a_stopped_command_that_says_a_result_has_one(workers: WorkerPool) -> None:
    slot = await workers.acquire()
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        """    print('{"type":"result","status":"ok","output":"in time"}')\n"""
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGINT, end)\n"
        "print('on', flush=True)\n"
        "time.sleep(60)"
    )
    running = Running(slot.worker, command_run(*python(code)))
    await running.heard.until("on")
    slot.worker.stop(running.run.run_id, "cancel")
    assert (await running.done()).outcome == Succeeded(b'"in time"')


async def test_a_command_that_ignores_sigint_gets_sigterm(workers: WorkerPool) -> None:
    slot = await workers.acquire()
    script = "trap '' INT; trap 'echo told; exit 3' TERM; echo on; while :; do sleep 0.01; done"
    running = Running(slot.worker, command_run("sh", "-c", script))
    await running.heard.until("on")
    slot.worker.stop(running.run.run_id, "timeout")
    done = await running.done()
    assert (done.outcome, done.exit_code) == (Stopped(), 3)
    assert running.heard.text("stdout") == "on\ntold\n"


async def test_a_command_that_ignores_both_is_killed(workers: WorkerPool) -> None:
    slot = await workers.acquire()
    script = "trap '' INT TERM; echo deaf; while :; do sleep 1; done"
    running = Running(slot.worker, command_run("sh", "-c", script))
    await running.heard.until("deaf")
    slot.worker.stop(running.run.run_id, "timeout")
    done = await running.done()
    assert (done.outcome, done.exit_code) == (Stopped(), -9)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to find them")
async def test_a_stop_finds_a_child_that_left_the_group(workers: WorkerPool) -> None:
    slot = await workers.acquire()
    code = (
        "import subprocess as s, time\n"
        "print(s.Popen(['sleep', '60'], start_new_session=True).pid, flush=True)\n"
        "time.sleep(60)"
    )
    running = Running(slot.worker, command_run(*python(code)))
    await running.heard.until("\n")
    slot.worker.stop(running.run.run_id, "cancel")
    await running.done()
    assert not is_alive(int(running.heard.text("stdout")))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to find them")
async def test_a_stop_finds_a_child_that_left_the_group_and_its_environment(
    workers: WorkerPool,
) -> None:
    slot = await workers.acquire()
    code = (
        "import subprocess as s, time\n"
        "print(s.Popen(['sleep', '60'], start_new_session=True, env={}).pid, flush=True)\n"
        "time.sleep(60)"
    )
    running = Running(slot.worker, command_run(*python(code)))
    await running.heard.until("\n")
    slot.worker.stop(running.run.run_id, "cancel")
    await running.done()
    assert not is_alive(int(running.heard.text("stdout")))


async def test_a_child_left_in_the_background_does_not_hold_the_attempt(
    workers: WorkerPool,
) -> None:
    started_at = time.monotonic()
    done, heard = await run_one(workers, command_run("sh", "-c", "sleep 60 & echo $!"))
    assert time.monotonic() - started_at < 10
    assert isinstance(done.outcome, Succeeded)
    assert not is_alive(int(heard.text()))


async def test_a_child_that_left_the_group_and_holds_the_output_ends_with_the_attempt(
    workers: WorkerPool,
) -> None:
    code = "import subprocess as s; print(s.Popen(['sleep','60'],start_new_session=True).pid)"
    done, heard = await run_one(workers, command_run(*python(code)))
    assert isinstance(done.outcome, Succeeded)
    assert not is_alive(int(heard.text()))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to look")
async def test_a_command_gets_no_file_of_its_worker() -> None:
    read_fd, write_fd = os.pipe()
    ours, theirs = socket.socketpair()
    for fd in (write_fd, theirs.fileno()):
        os.set_inheritable(fd, True)
    pipe = os.readlink(f"/proc/self/fd/{write_fd}")  # noqa: PTH115 - a text such as `pipe:[7]`, not a path
    with ours, theirs, os.fdopen(read_fd), os.fdopen(write_fd, "w"):
        async with pool(size=2) as workers:
            _, heard = await run_one(workers, command_run("ls", "-l", "/proc/self/fd"))
    assert "socket:" not in heard.text()
    assert pipe not in heard.text()


async def test_many_commands_run_at_once_in_one_worker(workers: WorkerPool) -> None:
    async def one(number: int) -> object:
        return result((await run_one(workers, command_run("echo", str(number))))[0].outcome)

    assert await asyncio.gather(*map(one, range(100))) == [str(n) for n in range(100)]


async def test_a_command_runs_in_its_worktree_with_what_belongs_to_it(
    workers: WorkerPool, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()

    def run(**args: object) -> Run:
        made = command_run("sh", "-c", "pwd; echo $FLEETLOG_WORKDIR $WHO $WHAT", **args)
        env = {"WHO": "tree", "WHAT": "tree"}
        return msgspec.structs.replace(made, workdir=str(tmp_path), env=env)

    runs = (run(env={"WHAT": "task"}), run(cwd="deep"), run(cwd="/"))
    said = [(await run_one(workers, each))[0].outcome for each in runs]
    assert [result(outcome) for outcome in said] == [
        f"{tmp_path}\n{tmp_path} tree task",
        f"{tmp_path}/deep\n{tmp_path}/deep tree tree",
        "/\n/ tree tree",
    ]
    done, _ = await run_one(workers, run(cwd="deep/../.."))
    assert isinstance(done.outcome, Failed)
    assert "not inside of its worktree" in done.outcome.error
