"""Command lines as processes that are forked off one that has imported everything.

Half of the processor time of a short command is Python's start and its imports: too much for thousands of them.
What a test says of the command holds as well here: it has arguments, environment, folder and files of its own,
and ends by itself. How long it takes, and what it imports, only a process that is started tells.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import IO, Any

from coverage import process_startup

from support.measuring import unmeasured

TESTS = Path(__file__).resolve().parent.parent
FILES = ("stdin", "stdout", "stderr")
NOT_IMPORTED = ("fleetlog.cli.__main__", "fleetlog.cli.projector")


class ForkServer:
    """Forks command lines, one at a time; ends with the process that has it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None

    def run(
        self, args: tuple[str, ...], environ: dict[str, str], stdin: bytes, timeout_s: float
    ) -> subprocess.CompletedProcess[bytes] | None:
        """Runs `fleetlog` with these arguments; None while another one runs, as that may wait for this one.

        Raises:
            TimeoutExpired: it has not ended in time, and was killed.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            with tempfile.TemporaryDirectory(prefix="forked-") as folder:
                (Path(folder) / "stdin").write_bytes(stdin)
                code = self._forked([args, environ, str(Path.cwd()), folder], timeout_s)
                out, err = ((Path(folder) / each).read_bytes() for each in FILES[1:])
        finally:
            self._lock.release()
        return subprocess.CompletedProcess(args, code, out, err)

    def _forked(self, asked: list[Any], timeout_s: float) -> int:
        server = self._server
        if server is None or server.poll() is not None:
            server = self._server = subprocess.Popen(
                [sys.executable, "-m", "support.forking"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,  # what `select` sees is all there is
                env=unmeasured({**os.environ, "PYTHONPATH": str(TESTS)}),
                start_new_session=True,  # not ended by a Ctrl-C that is meant for the tests
            )
            atexit.register(_end, server)
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(asked).encode() + b"\n")
        pid = int(server.stdout.readline())
        is_timely = bool(select.select([server.stdout], [], [], timeout_s)[0])
        if not is_timely:
            os.kill(pid, signal.SIGKILL)
        code = int(server.stdout.readline())
        if not is_timely:
            raise subprocess.TimeoutExpired(asked[0], timeout_s)
        return code


def _end(server: subprocess.Popen[bytes]) -> None:
    server.communicate()


def _serve() -> None:
    import fleetlog.cli

    for module in pkgutil.iter_modules(fleetlog.cli.__path__, "fleetlog.cli."):
        if not module.ispkg and module.name not in NOT_IMPORTED:
            importlib.import_module(module.name)
    assert "duckdb" not in sys.modules, "DuckDB has threads"
    assert threading.active_count() == 1, "what is forked must have one thread"
    gc.freeze()
    for line in sys.stdin.buffer:
        pid = os.fork()
        if pid == 0:
            _run(*json.loads(line))
        _tell(pid)
        _tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _tell(number: int) -> None:
    os.write(1, b"%d\n" % number)


def _run(args: list[str], environ: dict[str, str], cwd: str, folder: str) -> None:
    from fleetlog.cli.main import main

    code: Any = 1
    coverage = None
    try:
        for fd, name in enumerate(FILES):
            how = os.O_RDONLY if fd == 0 else os.O_WRONLY | os.O_CREAT
            os.dup2(os.open(Path(folder) / name, how, 0o600), fd)
        sys.stdin, sys.stdout, sys.stderr = (_opened(fd) for fd in range(3))
        os.environ.clear()
        os.environ.update(environ)
        os.chdir(cwd)
        coverage = process_startup(force=True)
        sys.argv, sys.path[0] = ["fleetlog", *args], cwd
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 - as Python does at its end
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        if coverage is not None:
            coverage.stop()
            coverage.save()
        # Not by way of what the server has to do at its own end.
        os._exit(code)


def _opened(fd: int) -> IO[str]:
    # As Python opens its own: what is no text is kept, and can be written again.
    errors = ("surrogateescape", "strict", "backslashreplace")[fd]
    return open(fd, "r" if fd == 0 else "w", encoding="utf-8", errors=errors, closefd=False)


if __name__ == "__main__":
    _serve()
