"""The demo's handlers: `fleetlog up --app examples.demo_app:agent` runs them."""

from __future__ import annotations

import ast
import io
import shutil
import tempfile
import tokenize
from dataclasses import dataclass
from pathlib import Path

from fleetlog import Agent, Child, Context, FanOut, call

agent = Agent()

DISKS = {"cube": "/", "clifford": tempfile.gettempdir(), "zerg": "/no/such/folder"}
"""Three folders of this machine stand for the disks of three hosts; the last one can't be reached."""

_NO_CODE = {
    *(tokenize.ENCODING, tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}
_BRANCHES = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.IfExp, ast.BoolOp),
    *(ast.ExceptHandler, ast.match_case, ast.comprehension),
)


@dataclass
class Function:
    """One function of a file."""

    name: str
    line: int
    lines: int
    branches: int


@dataclass
class Report:
    """What `measure` found in one file."""

    path: str
    code_lines: int
    functions: list[Function]


@agent.task(timeout="30s")
def measure(path: str) -> Report:
    """Reads one Python file: its lines of code, and how long and how branched each function is."""
    source = Path(path).read_text()
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = {token.start[0] for token in tokens if token.type not in _NO_CODE}
    functions = [
        Function(node.name, node.lineno, _lines(node), _branches(node))
        for node in ast.walk(ast.parse(source, path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return Report(path, len(code), functions)


@agent.task(max_attempts=3)
def knock(ctx: Context, opens_at: int) -> str:
    """Fails until it is tried for the `opens_at`-th time, as a service does that is only just starting."""
    if ctx.attempt < opens_at:
        raise ConnectionError(f"nobody opened at knock {ctx.attempt}")
    return f"opened at knock {ctx.attempt}"


@agent.task(timeout="30s", max_attempts=2)
def check_disk(host: str) -> int:
    """How much of a host's disk is free, in per cent."""
    usage = shutil.disk_usage(DISKS[host])
    return 100 * usage.free // usage.total


@agent.task
def supervise(hosts: list[str]) -> FanOut:
    """Checks the disks of all hosts at once; when all checks have ended, or after two minutes, it reports."""
    return FanOut([call(check_disk, host=host) for host in hosts], then=call(report), deadline="2m")


@agent.task
def report(ctx: Context) -> str:
    """A line for each host, in the order of the fan-out."""
    return "\n".join(f"{child.args['host']}: {_answer(child)}" for child in ctx.children)


def _answer(child: Child) -> str:
    if child.is_completed:
        return f"{child.result} % free"
    return (child.error or child.state).splitlines()[0]


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _branches(node: ast.AST) -> int:
    return sum(isinstance(each, _BRANCHES) for each in ast.walk(node))
