"""References to the object store."""

from __future__ import annotations

import msgspec
import pytest

from fleetlog.schemas.objects import (
    Artifact,
    ObjectRef,
)


def test_an_artifact_is_the_object_with_its_digest() -> None:
    artifact = Artifact(name="a", sha256="ab" * 32, size=3)
    assert artifact.ref == ObjectRef(sha256="ab" * 32, size=3)


@pytest.mark.parametrize(
    "text",
    [
        '{"size":1}',
        '{"sha256":"abc","size":1}',
        f'{{"sha256":"{"AB" * 32}","size":1}}',
        f'{{"sha256":"{"ab" * 32}","size":-1}}',
    ],
)
def test_what_is_no_reference_is_not_read_as_one(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=ObjectRef)
