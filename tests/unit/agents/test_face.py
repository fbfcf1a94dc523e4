"""Agents, handlers' signatures, and calls."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest

from fleetlog.agents.face import Agent, Context, Retry
from fleetlog.agents.handlers import Handler
from fleetlog.bus.call import call
from fleetlog.bus.errors import ConfigError
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.specs import Backoff, TaskSpec

agent = Agent()


@dataclass
class Disk:
    """An argument with a structure."""

    name: str
    size_gb: int = 10


@agent.task(timeout="30s", max_attempts=5, queue="disks", priority="high", labels={"team": "ops"})
async def check_disk(ctx: Context, host: str, disks: list[Disk], *, is_deep: bool = False) -> int:
    """A handler."""
    return len(host) + len(disks) + is_deep


@agent.task
def plain(later: Later | None = None, anything=[1]):  # type: ignore[no-untyped-def]  # noqa: B006
    """A handler whose annotations stand further down, with a default that can change."""
    return later, anything


class Later(msgspec.Struct):
    """Defined after its use."""

    x: int


def read(handler: str, args: object) -> dict[str, object]:
    return agent.handlers[handler].read(msgspec.json.encode(args))


def test_arguments_become_what_the_annotations_say() -> None:
    values = read("check_disk", {"host": "a", "disks": [{"name": "sda"}]})
    assert values == {"host": "a", "disks": [Disk("sda", 10)], "is_deep": False}


def test_annotations_may_name_what_is_defined_later_and_defaults_hold() -> None:
    assert read("plain", {"later": {"x": 1}}) == {"later": Later(1), "anything": [1]}
    assert agent.handlers["plain"].arguments() == {"later": False, "anything": False}


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({"host": 1, "disks": []}, r"Expected `str`, got `int` - at `\$.host`"),
        ({"host": "a", "disks": [{"name": 1}]}, r"at `\$.disks\[0\].name`"),
        ({"disks": []}, "missing required field `host`"),
        ({"host": "a", "disks": [], "hots": 1}, "unknown field `hots`"),
        ({"host": "a", "disks": [], "ctx": 1}, "unknown field `ctx`"),
        ([], "Expected `object`, got `array`"),
    ],
)
def test_wrong_arguments_are_refused_naming_the_field(args: object, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        read("check_disk", args)


def test_every_handler_has_a_json_schema_of_its_arguments() -> None:
    schema = msgspec.json.decode(agent.schemas()["check_disk"])
    properties = schema["$defs"]["check_disk"]["properties"]
    assert set(properties) == {"host", "disks", "is_deep"}
    assert schema["$defs"]["check_disk"]["required"] == ["host", "disks"]


def test_a_decorated_function_stays_a_function() -> None:
    assert plain(anything=3) == (None, 3)


def test_a_name_is_taken_once() -> None:
    mine = Agent()
    mine.task(name="one")(lambda: None)
    with pytest.raises(ConfigError, match="handler 'one' already"):
        mine.task(name="one")(lambda: None)


def star(*args: int) -> None: ...
def keywords(**kwargs: int) -> None: ...
def positional(x: int, /) -> None: ...
def two_contexts(a: Context, b: Context) -> None: ...
def unknown_name(x: NoSuchThing) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def two_structs(x: Later | AlsoLater) -> None: ...
def not_a_type(x: "1 +") -> None: ...  # type: ignore[valid-type]  # noqa: F722


class AlsoLater(msgspec.Struct):
    """Cannot be told from `Later`."""

    y: int


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (star, "takes no argument by name"),
        (keywords, "takes no argument by name"),
        (positional, "takes no argument by name"),
        (two_contexts, "more than one Context"),
        (unknown_name, "NoSuchThing"),
        (two_structs, "cannot be read from JSON"),
        (not_a_type, "annotation cannot be read"),
    ],
)
def test_a_handler_that_json_cannot_fill_is_a_configuration_error(
    function: object, text: str
) -> None:
    mine = Agent()
    mine.task(function)  # type: ignore[type-var]  # any function
    with pytest.raises(ConfigError, match=text):
        mine.schemas()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"timeout": "soon"}, "not a duration"),
        ({"timeout": -1}, "not allowed"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"priority": "urgent"}, "priority"),
        ({"queue": "a b"}, "queue"),
        ({"name": ""}, "handler"),
    ],
)
def test_settings_are_checked_where_they_are_written(
    settings: dict[str, object], text: str
) -> None:
    with pytest.raises(InvalidInput, match=text):
        Agent().task(**settings)(lambda: None)  # type: ignore[call-overload]  # wrong on purpose


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="no setting 'time_out'"):
        Agent().task(time_out=3)(lambda: None)  # type: ignore[call-overload]  # wrong on purpose


def test_a_call_of_a_function_takes_its_options() -> None:
    spec = call(check_disk, host="a", disks=[Disk("sda")])
    assert spec == TaskSpec(
        handler="check_disk",
        args=msgspec.Raw(b'{"host":"a","disks":[{"name":"sda","size_gb":10}]}'),
        queue="disks",
        priority="high",
        labels={"team": "ops"},
        max_attempts=5,
        timeout_ms=30_000,
    )


def test_durations_may_be_seconds_or_none() -> None:
    mine = Agent()

    @mine.task(
        timeout=None,
        silence=1.5,
        expires="1d",
        backoff=Backoff(first_ms=5),
        requires={"gpu": "yes"},
    )
    def task() -> None: ...

    spec = call(task)
    assert spec.requires == {"gpu": "yes"}
    assert (spec.timeout_ms, spec.silence_ms, spec.expires_ms) == (None, 1500, 86_400_000)
    assert spec.backoff.first_ms == 5


def test_a_call_by_name_leaves_the_check_to_others() -> None:
    assert call("somewhere.else", handler=1).args == msgspec.Raw(b'{"handler":1}')


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({"hots": "a"}, "no argument 'hots'; did you mean host?"),
        ({"zzz": "a"}, "no argument 'zzz'; there is disks, host, is_deep"),
        ({"host": "a"}, "needs disks"),
        ({"ctx": 1}, "no argument 'ctx'"),
        ({"host": object(), "disks": []}, "cannot be written as JSON"),
    ],
)
def test_a_call_of_a_function_checks_names_early(args: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        call(check_disk, **args)


def test_a_function_that_is_no_task_cannot_be_called() -> None:
    with pytest.raises(InvalidInput, match=r"test_a_function.* is not a task"):
        call(test_a_function_that_is_no_task_cannot_be_called)


def test_a_context_of_ones_own_serves_a_test() -> None:
    context = Context("t")
    context.progress(5, "five")
    context.log("x")
    assert not context.cancelled
    context.cancel()
    assert context.cancelled
    assert context.idempotency_key == "t"


def test_a_retry_knows_its_milliseconds() -> None:
    assert Retry(after="10s").after_ms == 10_000
    assert Retry(after=0.25).after_ms == 250


def test_a_handler_knows_whether_it_is_async() -> None:
    assert agent.handlers["check_disk"].is_async
    assert not Handler(plain, agent.handlers["plain"].options).is_async
