"""A source that yields one entity and then nothing for a long time, deaf to everything."""

import time

from pydantic import BaseModel

from airweave_server.sdk import Entity, Items, Partition, Source


class FrozenConfig(BaseModel):
    """``seconds`` of silence."""

    seconds: float


class FrozenCursor(BaseModel):
    """Never yielded."""


class Frozen(Source[FrozenConfig, FrozenCursor]):
    """Sleeps as a library does that knows no timeout."""

    name = "frozen"
    title = "Frozen"
    description = "A source of the tests."
    internal = True

    def read(self, partition: Partition, cursor: FrozenCursor | None) -> Items[FrozenCursor]:
        yield Entity("first", "first", "FrozenEntity", text="before the silence")
        time.sleep(self.config.seconds)
