"""Each rule lets good logs pass and catches bad ones."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from simulation.cases import CASES
from simulation.cases.case import Bad, Case, Write
from simulation.invariants import RULES, Judge, Violation
from simulation.writing import Log

GOOD = [(case, write) for case in CASES for write in case.good]
BAD = [(case, each if isinstance(each, Bad) else Bad(each)) for case in CASES for each in case.bad]


def judged(case: Case, write: Write) -> list[Violation]:
    log, judge = Log(), Judge(tolerance=case.tolerance, objects=case.objects)
    write(log)
    for message in log.messages:
        judge.take(message)
    judge.end(is_quiet=case.is_quiet, allowed_open=case.allowed_open)
    return judge.violations


def name_of(value: Any) -> str:
    if isinstance(value, Case):
        return value.rule
    write = value.write if isinstance(value, Bad) else value
    return str(write.__name__)


@pytest.mark.parametrize(("case", "write"), GOOD, ids=name_of)
def test_a_good_log_passes(case: Case, write: Write) -> None:
    assert judged(case, write) == []


@pytest.mark.parametrize(("case", "bad"), BAD, ids=name_of)
def test_a_bad_log_is_caught_by_its_rule(case: Case, bad: Bad) -> None:
    violations = judged(case, bad.write)
    assert {each.rule for each in violations} == {case.rule, *bad.also}
    assert all(each.seq and each.text for each in violations)


def test_every_rule_has_logs_and_a_sentence() -> None:
    assert set(RULES) == {case.rule for case in CASES}
    assert all(case.good and case.bad for case in CASES)
    assert all(sentence.endswith(".") for sentence in RULES.values())


def test_nothing_of_the_implementation_is_imported() -> None:
    folder = Path(__file__).resolve().parents[2] / "simulation"
    paths = [folder / "writing.py"]
    paths += [path for name in ("invariants", "cases") for path in (folder / name).glob("*.py")]
    assert len(paths) > 20
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.partition(".")[0] in ("fleetlog", "support") for name in names)
