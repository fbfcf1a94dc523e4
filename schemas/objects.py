"""References to what is too large for an event and stands in the fleet's object store."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

INLINE_MAX_BYTES: Final = 64 * 1024
"""Arguments and results up to this size stand in the event; larger ones in the object store."""
PAYLOAD_MAX_BYTES: Final = 8 * 1024 * 1024
"""Arguments and results are no larger: they go to and from a worker in one message, as half of it at most."""
ARTIFACT_MAX_BYTES: Final = 256 * 1024 * 1024
"""An artifact is no larger."""
ARTIFACTS_MAX: Final = 100
"""An attempt leaves no more artifacts: they are all named in the event that ends it."""

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
ByteCount = Annotated[int, Meta(ge=0)]


class ObjectRef(msgspec.Struct, frozen=True, kw_only=True):
    """An object of the fleet's store: it is called by the digest of what it holds."""

    sha256: Sha256
    """SHA-256 of its bytes, in hex."""
    size: ByteCount
    """How many bytes."""


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file that an attempt left behind, in the fleet's object store."""

    name: str
    """Unique within the attempt."""
    sha256: Sha256
    """SHA-256 of its bytes, in hex, which is what the object is called."""
    size: ByteCount
    """How many bytes."""
    media_type: str = "application/octet-stream"
    """What kind of file, as the attempt said or as its name suggests."""

    @property
    def ref(self) -> ObjectRef:
        """Where its bytes are."""
        return ObjectRef(sha256=self.sha256, size=self.size)
