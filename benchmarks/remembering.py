"""Memory: the peaks of our processes and of Postgres, while documents and while very many small files come in."""

from pathlib import Path

from . import corpus, processes
from .lab import Lab
from .processes import Memory
from .report import Table, number, spread
from .server import Server, serving

SMALL_FILES, SMALL_FILES_QUICK = 20_000, 2_000
COLLECTION = "bench"


def run(lab: Lab) -> list[Table]:
    table = Table("5. Memory, peak PSS in MB", (
        "what", "our processes", "Postgres", "both at once", "samples", "bounded by",
    ))  # fmt: skip
    documents, small = lab.place / "memory", lab.place / "small"
    lab.corpus.copy(documents, lab.usual)
    corpus.tiny(small, SMALL_FILES_QUICK if lab.quick else SMALL_FILES)
    idle: list[Memory] = []
    first: list[Memory] = []
    many: list[Memory] = []
    ready_s: list[float] = []
    for turn in range(lab.repeats):
        lab.say(f"memory, {turn + 1} of {lab.repeats}")
        with serving(lab.place) as server:
            ready_s.append(server.ready_s)
            idle.append(processes.memory(server.pid))
            first.append(_peak(server, documents, "documents"))
        with serving(lab.place) as server:
            many.append(_peak(server, small, "small"))
    _write(table, "idle, just started", idle, "Python with its libraries; Postgres' shared memory is not touched yet")
    _write(
        table, f"initial sync of {lab.usual:,} documents", first,
        "the model's weights, a batch and its vectors; Postgres' shared_buffers fill with what is written",
    )  # fmt: skip
    files = sum(1 for path in small.rglob("*") if path.is_file())
    _write(
        table, f"initial sync of {files:,} small files", many,
        "the same: what is held grows with a batch, and for a listing with the names of one folder",
    )  # fmt: skip
    table.notes.append(
        f"Sampled from smaps_rollup every {processes.SAMPLE_S * 1000:.0f} ms or slower; in runs of their own, for that "
        f"costs time. A first start takes {spread(ready_s)} s until it answers, the making of the database included."
    )
    return [table]


def _peak(server: Server, folder: Path, collection: str) -> Memory:
    connection = server.connect(f"{COLLECTION}-{collection}", folder)
    with processes.sampled(server.pid) as peaks:
        server.sync(connection)
    return peaks


def _write(table: Table, what: str, peaks: list[Memory], bound: str) -> None:
    table.add(
        what, spread((one.server for one in peaks), digits=0), spread((one.postgres for one in peaks), digits=0),
        spread((one.together for one in peaks), digits=0), number(sum(one.samples for one in peaks), 0), bound,
    )  # fmt: skip
