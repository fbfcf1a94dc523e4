"""Requirements: the queue that stands for them, and which labels meet them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import check_id
from fleetlog.schemas.requirements import (
    REQUIREMENTS_MAX,
    offer_queue,
    requirements_text,
    satisfies,
)
from fleetlog.schemas.specs import TaskSpec, check_spec, payload_digest

WORDS = st.text(min_size=1, max_size=300)
QUEUES = st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True)
NEEDS = st.dictionaries(WORDS, WORDS, max_size=4)


def test_a_task_without_requirements_is_offered_on_its_own_queue() -> None:
    assert offer_queue("gpu", {}) == "gpu"
    assert TaskSpec(handler="h", queue="gpu").offered_on == "gpu"


def test_the_name_of_a_derived_queue_can_be_read_and_never_changes() -> None:
    # It stands in people's logs: agents of another release must find the same one.
    assert offer_queue("ml", {"gpu": "yes"}) == "ml-needs-gpu-yes-3976e483"
    assert (
        offer_queue("ml", {"os": "linux", "gpu": "a 100"}) == "ml-needs-gpu-a-100-os-linux-51dfcc02"
    )


@given(queue=QUEUES, needs=NEEDS)
def test_every_derived_queue_is_one_token(queue: str, needs: dict[str, str]) -> None:
    check_id(offer_queue(queue, needs))
    reordered = dict(reversed(list(needs.items())))
    assert offer_queue(queue, reordered) == offer_queue(queue, needs)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "b-c"}, {"a-b": "c"}),
        ({"a": "b"}, {"a": "B"}),
        ({"a": "b", "c": "d"}, {"a": "b-c-d"}),
        ({"ä": "b"}, {"ö": "b"}),
        ({"a": "x" * 200}, {"a": "x" * 201}),
    ],
)
def test_what_only_looks_alike_has_queues_of_its_own(
    one: dict[str, str], other: dict[str, str]
) -> None:
    assert offer_queue("q", one) != offer_queue("q", other)
    assert offer_queue("q", one) != offer_queue("p", one)


def test_labels_meet_requirements_with_exactly_these_values() -> None:
    labels = {"gpu": "yes", "os": "linux"}
    assert satisfies(labels, {})
    assert satisfies(labels, {"gpu": "yes"})
    assert not satisfies(labels, {"gpu": "Yes"})
    assert not satisfies(labels, {"gpu": "yes", "disk": "big"})
    assert requirements_text({"os": "linux", "gpu": "yes"}) == "gpu=yes, os=linux"


def test_requirements_are_checked_and_are_no_part_of_the_payload() -> None:
    plain, needy = TaskSpec(handler="h"), TaskSpec(handler="h", requires={"gpu": "yes"})
    assert check_spec(needy) is needy
    assert payload_digest(plain) == payload_digest(needy)
    many = {f"n{number}": "v" for number in range(REQUIREMENTS_MAX + 1)}
    for wrong in ({"gpu": ""}, {"": "yes"}, {"gpu": 1}, many):
        with pytest.raises(InvalidInput, match="requires"):
            check_spec(TaskSpec(handler="h", requires=wrong))  # type: ignore[arg-type] # it is wrong
