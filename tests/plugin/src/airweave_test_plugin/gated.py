"""The folder source with gates: it waits where a test has closed one, so that a test knows what has been read."""

import time
from pathlib import Path

from pydantic import Field

from airweave_server.sdk import Items, Partition
from airweave_server.sources.folder import Folder, FolderConfig, FolderCursor

POLL_S = 0.01


class GatedConfig(FolderConfig):
    """``gates``: a folder in which each point that is passed leaves a file ``POINT.reached``, and in which a test
    closes one by a file ``POINT.closed``. Points: ``read KEY``, ``done KEY`` and ``asked KEY``; the slashes of a key
    are left out."""

    gates: str = Field(description="The folder of the gates.")


class GatedFolder(Folder):
    """Reads a folder as ``Folder`` does."""

    name = "gated_folder"
    title = "Gated folder"
    description = "A source of the tests."
    internal = True
    config_model = GatedConfig

    def read(self, partition: Partition, cursor: FolderCursor | None) -> Items[FolderCursor]:
        self._pass("read", partition)
        yield from super().read(partition, cursor)
        self._pass("done", partition)

    def changed_since(self, partition: Partition, cursor: FolderCursor | None) -> bool:
        self._pass("asked", partition)
        return super().changed_since(partition, cursor)

    def _pass(self, what: str, partition: Partition) -> None:
        assert isinstance(self.config, GatedConfig)
        gates, point = Path(self.config.gates), f"{what} {partition.key.replace('/', '')}"
        (gates / f"{point}.reached").touch()
        while (gates / f"{point}.closed").exists():
            self.context.check()
            time.sleep(POLL_S)
