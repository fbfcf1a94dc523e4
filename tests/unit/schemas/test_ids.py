"""Ids: what can stand in a subject, what sorts by time, what a key becomes."""

from __future__ import annotations

import pytest

from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import ID_LENGTH_MAX, KEY_LENGTH_MAX, check_id, key_id, time_ordered_id

ENTROPY = bytes(range(16))


@pytest.mark.parametrize("value", ["a", "A-z_09", "-", "_", "x" * ID_LENGTH_MAX])
def test_single_tokens_are_ids(value: str) -> None:
    assert check_id(value) == value


@pytest.mark.parametrize(
    "value",
    ["", "a.b", "*", ">", "a b", "a\n", "\n", "é", "٣", "a/b", "\x00", "x" * (ID_LENGTH_MAX + 1)],
)
def test_everything_else_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidInput, match=r"^queue .* is not valid"):
        check_id(value, "queue")


def test_the_message_shows_no_more_than_the_beginning_of_a_long_value() -> None:
    with pytest.raises(InvalidInput) as caught:
        check_id("é" * 10_000)
    assert len(str(caught.value)) < 200


def test_time_ordered_id_has_the_layout_of_a_ulid_in_lower_case() -> None:
    assert time_ordered_id(1_469_918_176_385, bytes(16)) == "01aryz6s410000000000000000"
    assert time_ordered_id(0, b"\xff" * 16) == "0000000000" + "z" * 16
    assert time_ordered_id(2**48 - 1, b"\xff" * 16) == "7" + "z" * 25


def test_time_ordered_ids_sort_by_time() -> None:
    earlier = time_ordered_id(1_700_000_000_000, b"\xff" * 16)
    later = time_ordered_id(1_700_000_000_001, bytes(16))
    assert earlier < later


def test_every_byte_of_entropy_counts() -> None:
    for place in range(16):
        other = bytearray(ENTROPY)
        other[place] ^= 1
        assert time_ordered_id(5, bytes(other)) != time_ordered_id(5, ENTROPY)


def test_only_sixteen_bytes_of_entropy_count() -> None:
    assert time_ordered_id(5, ENTROPY + b"more") == time_ordered_id(5, ENTROPY)


def test_key_id_is_the_same_for_everybody_for_ever() -> None:
    assert key_id("order-7") == "kdf8cf80227ec3237922df0ecd88385c5"
    assert check_id(key_id("any text at all: é 🚀 \x00"))
    assert key_id("a") != key_id("a ")
    assert check_id(key_id("x" * KEY_LENGTH_MAX))


@pytest.mark.parametrize("key", ["", "x" * (KEY_LENGTH_MAX + 1)])
def test_key_of_no_or_too_great_length_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match="1 to 1024 characters"):
        key_id(key)


def test_key_that_is_not_unicode_text_is_refused() -> None:
    """What a shell passes for a byte that is not UTF-8."""
    with pytest.raises(InvalidInput, match="valid Unicode"):
        key_id("a\udcff")
