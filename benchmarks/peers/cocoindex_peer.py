# mypy: disable-error-code="import-not-found,untyped-decorator"
"""CocoIndex: local files to a LanceDB table, each file memoized, indexes declared. One phase a process."""

import os

os.environ["COCOINDEX_DISABLE_USAGE_TRACKING"] = "1"

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import cocoindex as coco
import common
import lancedb
import numpy as np
from cocoindex.connectors import lancedb as lance
from cocoindex.connectors import localfs
from cocoindex.resources.schema import VectorSchema
from numpy.typing import NDArray

ASKED = common.arguments()
os.environ["COCOINDEX_DB"] = str(ASKED.state / "cocoindex.db")
EMBED = common.embedder(ASKED.embedder)
LANCE = coco.ContextKey("lance")
TABLE = "chunks"


@dataclass
class Row:
    id: str
    document: str
    text: str
    vector: Annotated[NDArray[np.float32], VectorSchema(dtype=np.dtype("float32"), size=common.DIMENSIONS)]


@dataclass
class Count:
    files: int = 0
    chunks: int = 0


COUNT = Count()


@coco.lifespan
async def lifespan(builder: Any) -> AsyncIterator[None]:
    builder.provide(LANCE, await lance.connect_async(str(ASKED.state / "lance")))
    yield


@coco.fn(memo=True)
async def index_file(file: Any, table: Any) -> None:
    COUNT.files += 1
    chunks = common.split(await file.read_text())
    if not chunks:
        return
    COUNT.chunks += len(chunks)
    name = file.file_path.path.name
    for n, (text, vector) in enumerate(zip(chunks, EMBED(chunks), strict=True)):
        table.declare_row(row=Row(id=f"{name}:{n}", document=name, text=text, vector=vector))


@coco.fn
async def index_folder(folder: Any) -> None:
    schema = await lance.TableSchema.from_class(Row, primary_key=["id"])
    table = await lance.mount_table_target(LANCE, TABLE, schema)
    table.declare_fts_index(column="text", with_position=False)
    if ASKED.vector_index:
        table.declare_vector_index(column="vector")
    await coco.mount_each(index_file, localfs.walk_dir(folder).items(), table)


def main() -> None:
    app = coco.App(coco.AppConfig(name="bench"), index_folder, folder=ASKED.folder)
    began_at = common.now()
    app.update_blocking()
    ended_at = common.now()
    table = lancedb.connect(str(ASKED.state / "lance")).open_table(TABLE)
    common.report(began_at, ended_at, files=COUNT.files, chunks=COUNT.chunks, table=table, words=ASKED.words)


main()
