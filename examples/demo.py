"""`make demo`: real work through a whole fleet on this machine, and what SQL tells about it afterwards.

Starts `fleetlog up` on a temporary folder and does what a person would do, each command shown before its
output. Works offline, takes well under a minute, and leaves nothing behind, after Ctrl-C neither. The exit code
is 0 only if every outcome is what it should be.
"""
# ruff: noqa: T201 - a program for people prints

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
FOLDERS = ["schemas", "bus", "agents", "projections", "cli", "src", "tests", "examples"]
COMMAND_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60

SUCCESS = "SELECT handler, settled, completed, failed, success_rate FROM success_rate"
THROUGHPUT = "SELECT minute, submitted, claimed, settled, completed FROM throughput_by_minute"
SPEEDUP = """\
SELECT count(*) AS attempts, count(DISTINCT worker_id) AS workers,
       round(sum(ran_ms) / 1000, 2) AS one_by_one_s,
       round(epoch(max(ended_at) - min(claimed_at)), 2) AS wall_s,
       round(one_by_one_s / wall_s, 2) AS speedup
FROM attempts WHERE handler = 'measure'"""
SLOWEST = """\
SELECT handler, coalesce(args->>'path', args->>'argv') AS what, attempt, worker_id, ran_ms
FROM attempts JOIN tasks USING (task_id, handler) ORDER BY ran_ms DESC LIMIT 5"""
EVENTS = """\
SELECT seq, strftime(stored_at, '%H:%M:%S.%g') AS at_utc, type, attempt, error_class
FROM events WHERE task_id = '{task_id}' ORDER BY seq"""
ATTEMPTS = """\
SELECT attempt, outcome, agent_id, worker_id, host, ran_ms, split_part(error, chr(10), 1) AS error
FROM attempts WHERE task_id = '{task_id}' ORDER BY attempt"""
LONGEST = """\
SELECT f->>'name' AS function, (f->>'lines')::INT AS lines, (f->>'branches')::INT AS branches,
       path || ':' || (f->>'line') AS place
FROM (SELECT result->>'path' AS path, unnest((result->'functions')::JSON[]) AS f
      FROM tasks WHERE handler = 'measure')
ORDER BY lines DESC, place LIMIT 5"""
BARRIERS = """\
SELECT task_id, handler, m.state, attempts, policy, b.state AS barrier
FROM barrier_members AS m JOIN barriers AS b USING (barrier_id) ORDER BY position"""
AGENT_CLIS = """\
SELECT task_id, attempt, outcome, error_class, model, input_tokens + output_tokens AS tokens, cost_usd
FROM attempts WHERE handler = 'claude' ORDER BY claimed_at"""
STATES = "SELECT task_id, handler, state, attempts FROM tasks ORDER BY task_id"
TROUBLE = (
    "SELECT seq, type, is_violation, problem FROM events WHERE is_violation OR problem IS NOT NULL"
)

BOLD, RED, CYAN = 1, 31, 36


class Unexpected(Exception):
    """Something is not as it should be."""


class Processes:
    """The processes that the demo has started, and what signals do.

    The first signal interrupts the demo, but never between the start of a process and the note of it. Any
    further one only hurries the stop.
    """

    def __init__(self) -> None:
        self._up: subprocess.Popen[str] | None = None
        self._command: subprocess.Popen[str] | None = None
        self._is_held = False
        self._is_pending = False
        self._is_stopping = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """A signal handler."""
        if self._is_stopping:
            if self._up is not None:
                self._up.terminate()
        elif self._is_held:
            self._is_pending = True
        else:
            self._is_stopping = True
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal within interrupts at the end of the block."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._is_pending:
            self._is_stopping = True
            raise KeyboardInterrupt

    def start_up(self, argv: tuple[str, ...], environ: dict[str, str], said: Path) -> None:
        """Starts the fleet, in a session of its own: Ctrl-C is for this process, which stops it in order."""
        with said.open("wb") as stderr, self.held():
            self._up = subprocess.Popen(
                _resolve(argv),
                cwd=ROOT,
                env=environ,
                stderr=stderr,
                start_new_session=True,
                text=True,
            )

    def run(
        self, argv: tuple[str, ...], environ: dict[str, str], *, is_quiet: bool
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; what it says comes back if it is quiet, else goes straight out."""
        pipe = subprocess.PIPE if is_quiet else None
        with self.held():
            self._command = subprocess.Popen(
                _resolve(argv), cwd=ROOT, env=environ, stdout=pipe, stderr=pipe, text=True
            )
        stdout, stderr = self._command.communicate(timeout=COMMAND_TIMEOUT_S)
        return subprocess.CompletedProcess(argv, self._command.returncode, stdout, stderr)

    def end_up(self) -> int:
        """Stops the fleet in order; answers its exit code."""
        assert self._up is not None
        self._up.terminate()
        try:
            return self._up.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._up.terminate()  # a second signal hurries: it kills what does not end
            return self._up.wait()

    def end_all(self) -> None:
        """Returns once nothing runs any more; from now on no signal interrupts."""
        self._is_stopping = True
        if self._command is not None and self._command.poll() is None:
            self._command.kill()
            self._command.wait()
        if self._up is not None:
            self.end_up()


class Fleet:
    """One fleet that runs, and the commands that are given to it."""

    def __init__(self, processes: Processes, environ: dict[str, str]) -> None:
        self._processes = processes
        self._environ = environ

    def run(self, *argv: str, expected: int = 0) -> str:
        """Shows a command, runs it, shows what it says; answers its stdout."""
        _say(f"\n$ {_shell_line(argv)}", BOLD)
        done = self._processes.run(argv, self._environ, is_quiet=True)
        for said in filter(None, (done.stdout.rstrip(), done.stderr.rstrip())):
            print(said, flush=True)
        _check(done.returncode == expected, f"`{argv[1]}` ended with {done.returncode}")
        return done.stdout

    def show(self, *argv: str) -> None:
        """Like `run`, with its output straight on this terminal, so that it may draw progress."""
        _say(f"\n$ {_shell_line(argv)}", BOLD)
        done = self._processes.run(argv, self._environ, is_quiet=False)
        _check(done.returncode == 0, f"`{_shell_line(argv)}` ended with {done.returncode}")

    def sql(self, statement: str) -> None:
        """One question, and the answer as a table."""
        self.run("fleetlog", "sql", "--fresh", statement)

    def ask(self, *argv: str) -> Any:
        """What a command says in JSON, shown to nobody."""
        done = self._processes.run(argv, self._environ, is_quiet=True)
        _check(done.returncode == 0, f"`{argv[1]}` ended with {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)


def main() -> int:
    """The demo; answers its exit code."""
    began = time.monotonic()
    processes = Processes()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, processes.on_signal)
    try:
        with temporary_folder(processes) as folder, started(folder, processes) as fleet:
            demonstrate(fleet)
    except KeyboardInterrupt:
        _say("\nstopped; nothing is left behind", BOLD)
        return 130
    except (Unexpected, subprocess.SubprocessError) as error:
        _say(f"\nThe demo failed: {error}", RED)
        return 1
    _say(f"\nAll as it should be, in {time.monotonic() - began:.0f} s. Yours now:", BOLD)
    print(
        f"  source {_short(BIN / 'activate')}\n"
        "  fleetlog up --app examples.demo_app:agent     # one terminal\n"
        "  fleetlog run --wait -- echo hello             # another one\n"
        "  README.md tells the rest, docs/architecture.md how it works."
    )
    return 0


@contextmanager
def temporary_folder(processes: Processes) -> Iterator[Path]:
    """A folder that is gone at the end whatever happens, as are the processes that work in it."""
    folder: Path | None = None
    try:
        with processes.held():
            folder = Path(tempfile.mkdtemp(prefix="fleetlog-demo-"))
        yield folder
    finally:
        processes.end_all()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def started(folder: Path, processes: Processes) -> Iterator[Fleet]:
    """A fleet of its own, stopped in order at the end."""
    argv = ("fleetlog", "up", "--app", "examples.demo_app:agent", "--workers", str(_workers()))
    environ = {**os.environ, "FLEETLOG_DATA": str(folder / "data"), "FLEETLOG_URL": ""}
    environ["CLAUDE_CLI_PATH"] = str(stand_in(folder))
    for name in ("FLEETLOG_FLEET", "FLEETLOG_CREDS"):
        environ.pop(name, None)
    heading("A fleet on this machine: log, coordinator, projector, and an agent with its workers.")
    _say(f"\n$ {_shell_line(argv)} &", BOLD)
    said = folder / "up.log"
    try:
        processes.start_up(argv, environ, said)
        fleet = Fleet(processes, environ)
        fleet.run("fleetlog", "status", "--wait", "30s")
        yield fleet
        heading("The fleet stops in order: SIGTERM, running tasks would get 30 s.")
        code = processes.end_up()
        _check(code == 0, f"`fleetlog up` ended with {code}")
        print("\n`fleetlog up` has ended with exit code 0.")
    except (Unexpected, subprocess.SubprocessError):
        processes.end_all()
        print(f"\n`fleetlog up` said:\n{said.read_text()}", file=sys.stderr)
        raise


def stand_in(folder: Path) -> Path:
    """What plays the Claude CLI here: the demo costs nothing and needs no account."""
    program = folder / "claude"
    mock = ROOT / "examples" / "mock_claude.py"
    program.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(mock))} "$@"\n'
    )
    program.chmod(0o700)
    return program


def demonstrate(fleet: Fleet) -> None:
    """The work, then the questions."""
    heading("Commands are tasks: any program, run by a worker, its outcome recorded once.")
    fleet.run("fleetlog", "run", "--wait", "--", "df", "-h")
    fleet.run("fleetlog", "run", "--wait", "--", "uname", "-a")

    heading("Two tasks with trouble: one fails twice and then succeeds, one can't succeed.")
    knock = ("fleetlog", "submit", "knock", '{"opens_at": 3}', "--key", "third-knock")
    nowhere = ("fleetlog", "run", "--max-attempts", "2", "--key", "nowhere")
    ls = ("--", "ls", "/no/such/folder")
    knock_id = fleet.run(*knock).strip()
    nowhere_id = fleet.run(*nowhere, *ls).strip()

    heading("Meanwhile a Python handler reads every source file of this checkout, a task for each.")
    measure = ("python", "examples/measure.py", *FOLDERS)
    fleet.show(*measure)
    heading("The same again: each task has a key, so all are known and nothing runs twice.")
    fleet.show(*measure)

    heading("One task leads to three others, and a report follows when all of them have ended.")
    fleet.run("python", "examples/disk_space.py")
    fleet.sql(BARRIERS)

    heading(
        "Agent CLIs are work too. A stand-in plays claude: it answers; then its limit is reached."
    )
    claude = ("fleetlog", "run", "--executor", "claude", "--wait", "--prompt")
    fleet.run(*claude, "How many words has this prompt?")
    fleet.run(
        *claude, "[mock:limit] The task waits until the limit resets, and no attempt is lost."
    )
    fleet.sql(AGENT_CLIS)

    victim_id = kill_a_worker(fleet)

    heading("Submitted again with its key, the knocking task is the same task. Now we wait for it.")
    fleet.run(*knock, "--wait")
    heading("So is the hopeless one. It ends as failed, and a script sees exit code 1.")
    fleet.run(*nowhere, "--wait", *ls, expected=1)

    heading("What happened? The log knows, and SQL asks it: outcomes,")
    fleet.sql(SUCCESS)
    heading("throughput,")
    fleet.sql(THROUGHPUT)
    heading("how much faster than one by one,")
    fleet.sql(SPEEDUP)
    heading("the slowest,")
    fleet.sql(SLOWEST)
    heading("the life of the task that was retried: its events and its attempts,")
    fleet.run("fleetlog", "task", "show", knock_id)
    fleet.sql(EVENTS.format(task_id=knock_id))
    fleet.sql(ATTEMPTS.format(task_id=knock_id))
    heading("and what the handler found: the longest functions, out of the tasks' results.")
    fleet.sql(LONGEST)
    verify(fleet, knock_id, nowhere_id, victim_id)


def kill_a_worker(fleet: Fleet) -> str:
    """A worker dies in the middle of a task; answers the task, which another one has finished."""
    heading("A worker process is killed in the middle of a task. It costs time, not the task.")
    command = ("fleetlog", "run", "--key", "survivor")
    # Only a kill ends the first attempt soon, however slow the machine.
    work = ("--", "sh", "-c", '[ "$FLEETLOG_ATTEMPT" -gt 1 ] || sleep 60; echo survived')
    task_id = fleet.run(*command, *work).strip()
    pid = worker_of(fleet, task_id)
    _say(f"\n$ kill -9 {pid}", BOLD)
    os.kill(pid, signal.SIGKILL)
    fleet.run(*command, "--wait", *work)
    fleet.sql(ATTEMPTS.format(task_id=task_id))
    return task_id


def worker_of(fleet: Fleet, task_id: str) -> int:
    """The process id of the worker that runs a task, as `fleetlog status` knows it from its agent's beat."""
    give_up_at = time.monotonic() + COMMAND_TIMEOUT_S
    while time.monotonic() < give_up_at:
        for agent in fleet.ask("fleetlog", "status", "--json")["agents"]:
            for worker in agent["workers"]:
                if worker.get("task_id") == task_id:
                    return int(worker["pid"])
    raise Unexpected(f"no worker ever ran task {task_id}")


def verify(fleet: Fleet, knock_id: str, nowhere_id: str, victim_id: str) -> None:
    """Raises `Unexpected` unless every outcome is what it should be."""
    rows = fleet.ask("fleetlog", "sql", "--fresh", "--format", "json", STATES)
    found = {row["task_id"]: (row["state"], row["attempts"]) for row in rows}
    expected = dict.fromkeys(found, ("completed", 1))
    expected |= {knock_id: ("completed", 3), nowhere_id: ("failed", 2)}
    expected[victim_id] = ("completed", 2)
    down = [row["task_id"] for row in rows if row["handler"] == "check_disk"][-1:]
    expected |= dict.fromkeys(down, ("failed", 2))
    limited = [row["task_id"] for row in rows if row["handler"] == "claude" and row["attempts"] > 1]
    _check(len(limited) == 1, f"one prompt meets a limit, not {len(limited)}")
    expected[limited[0]] = ("completed", 2)
    wrong = {
        task_id: found.get(task_id)
        for task_id in expected
        if found.get(task_id) != expected[task_id]
    }
    _check(not wrong, f"tasks ended otherwise than expected: {wrong}")
    measured = sum(row["handler"] == "measure" for row in rows)
    files = sum(len(list((ROOT / folder).rglob("*.py"))) for folder in FOLDERS)
    _check(measured == files > 0, f"{files} files, but {measured} were measured")
    shown = fleet.ask("fleetlog", "task", "show", knock_id, "--json")
    _check(shown["result"] == "opened at knock 3", f"the knock's result is {shown['result']!r}")
    trouble = fleet.ask("fleetlog", "sql", "--fresh", "--format", "json", TROUBLE)
    _check(trouble == [], f"events that should not be there: {trouble}")


def heading(text: str) -> None:
    """What comes next, in a sentence."""
    _say(f"\n── {text}", CYAN)


def _say(text: str, style: int) -> None:
    """A line in style on a terminal, plain elsewhere; out before any command speaks."""
    is_plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    print(text if is_plain else f"\x1b[{style}m{text}\x1b[0m", flush=True)


def _workers() -> int:
    return min(8, max(2, os.cpu_count() or 1))


def _resolve(argv: tuple[str, ...]) -> list[str]:
    # What an activated environment would find.
    return [str(BIN / argv[0]), *argv[1:]]


def _shell_line(argv: tuple[str, ...]) -> str:
    """The command as one would type it; double quotes where it holds single ones."""
    return " ".join(_quoted(word) for word in argv)


def _quoted(word: str) -> str:
    if "'" in word and not set(word) & set('"$`\\!'):
        return f'"{word}"'
    return shlex.quote(word)


def _short(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _check(is_so: bool, otherwise: str) -> None:  # noqa: FBT001 - reads like an assertion
    if not is_so:
        raise Unexpected(otherwise)


if __name__ == "__main__":
    sys.exit(main())
