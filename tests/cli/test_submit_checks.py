"""What `fleetlog submit` refuses because no agent of the fleet would take it."""

from __future__ import annotations

from support.command_line import CommandLine


def end_of(cli: CommandLine, handler: str) -> list[str]:
    """The tasks of a handler that the log has."""
    events = cli("log", "tail", "--type", "task.queued", "--after", "0", "--json").value
    return [event["subject"] for event in events if event["spec"]["handler"] == handler]


def test_unknown_handler_is_refused_with_near_names(cli: CommandLine) -> None:
    ran = cli.run("submit", "gret", '{"name": "cube"}')
    assert (ran.code, ran.out) == (1, "")
    assert "no agent of this fleet has ever had a handler 'gret'; did you mean greet?" in ran.err
    assert "--unchecked" in ran.err
    assert end_of(cli, "gret") == []


def test_wrong_arguments_are_refused_with_their_place(cli: CommandLine, fleet: str) -> None:
    for args, expected in (
        ('{"a": "1"}', 'a must be an integer, not "1"'),
        ("{}", "a must be an integer, but is missing"),
        ('{"a": 1, "c": 2}', "c is not known; there is a, b"),
    ):
        ran = cli.run("submit", "add", args, "--key", fleet)
        assert (ran.code, ran.out) == (2, "")
        assert f"the arguments do not fit handler add: {expected}" in ran.err
    # Nothing was written: the key is free.
    assert cli("submit", "add", '{"a": 1}', "--key", fleet, "--json").value["duplicate"] is False


def test_unchecked_submits_all_the_same(cli: CommandLine) -> None:
    ran = cli.run("submit", "add", '{"a": "1"}', "--unchecked", "--wait", "--json")
    assert ran.code == 1
    assert ran.value["state"] == "failed"
    ran = cli.run("submit", "nobody", "--unchecked", "--wait", "--json")
    assert ran.code == 1
    assert ran.value["state"] == "failed"


def test_task_that_is_there_already_is_still_the_same_task(cli: CommandLine, fleet: str) -> None:
    wrong = ("submit", "add", '{"a": "1"}', "--key", fleet)
    first = cli(*wrong, "--unchecked", "--json").value
    assert cli(*wrong, "--json").value == {**first, "duplicate": True}


def test_commands_are_not_checked(cli: CommandLine) -> None:
    assert cli("run", "--wait", "--", "echo", "hello").out == "hello\n"


def test_fleet_without_agents_accepts_with_a_note(cli: CommandLine, fleet: str) -> None:
    ran = cli("--fleet", fleet, "submit", "anything", '{"a": 1}', "--json")
    assert ran.value["duplicate"] is False
    assert "no agent has run in this fleet yet; the task waits" in ran.err
    assert cli("--fleet", fleet, "submit", "anything", "--unchecked").err == ""
