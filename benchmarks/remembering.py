"""Memory: the peaks of our processes and of Postgres while syncing documents and very many small files."""

from pathlib import Path

from . import corpus, processes
from .lab import Lab
from .processes import Memory
from .report import Table, number, spread
from .server import Server, serving

SMALL_FILES, SMALL_FILES_QUICK = 100_000, 2_000
BIG_BYTES, BIG_BYTES_QUICK = 100_000_000, 5_000_000
COLLECTION = "bench"


def run(lab: Lab) -> list[Table]:
    table = Table(
        "5. Memory, peak PSS in MB",
        (
            "what",
            "our processes",
            "Postgres",
            "both at once",
            "samples",
            "bounded by",
        ),
    )
    documents, small = lab.place / "memory", lab.place / "small"
    lab.corpus.copy(documents, lab.usual)
    corpus.tiny(small, SMALL_FILES_QUICK if lab.quick else SMALL_FILES)
    big = _one_big(lab)
    idle: list[Memory] = []
    first: list[Memory] = []
    many: list[Memory] = []
    one: list[Memory] = []
    disk = Table("Disk", ("what", "source MB", "chunks", "database MB", "MB a 1,000 chunks", "MB a MB of the source"))
    ready_s: list[float] = []
    for turn in range(lab.repeats):
        lab.say(f"memory, {turn + 1} of {lab.repeats}")
        with serving(lab.place) as server:
            ready_s.append(server.ready_s)
            idle.append(processes.memory(server.pid))
            empty_mb = server.database_mb()
            connection = server.connect(f"{COLLECTION}-documents", documents)
            first.append(_peak(server, connection))
            if turn == 0:
                _write_disk(disk, f"{lab.usual:,} documents", documents, server, connection, empty_mb)
        with serving(lab.place) as server:
            connection = server.connect(f"{COLLECTION}-small", small)
            many.append(_peak(server, connection))
            if turn == 0:
                _write_disk(disk, "small files", small, server, connection, empty_mb)
        with serving(lab.place) as server:
            one.append(_peak(server, server.connect(f"{COLLECTION}-big", big, max_file_mb=1_000)))
    _write(table, "idle, just started", idle, "Python with its libraries; Postgres' shared memory is not touched yet")
    _write(
        table,
        f"initial sync of {lab.usual:,} documents",
        first,
        "the model's weights, a batch and its vectors; Postgres' shared_buffers fill with what is written",
    )
    files = sum(1 for path in small.rglob("*") if path.is_file())
    _write(
        table,
        f"initial sync of {files:,} small files",
        many,
        "the same: what is held grows with a batch, and for a listing with the names of one folder",
    )
    _write(
        table,
        f"initial sync of one file of {sum(path.stat().st_size for path in big.iterdir()) / 1e6:,.0f} MB",
        one,
        "the file's bytes and its text, once each, and the pieces that are written at once",
    )
    table.notes.append(
        f"Sampled from smaps_rollup every {processes.SAMPLE_S * 1000:.0f} ms or slower; in runs of their own, for that "
        f"costs time. A first start takes {spread(ready_s)} s until it answers, the making of the database included."
    )
    disk.notes.append(
        "Texts, words, vectors (256 halves), their indexes and the ledger, less what an empty database takes."
    )
    return [table, disk]


def _one_big(lab: Lab) -> Path:
    """Create a folder with one text file of concatenated documents of the corpus."""
    folder = lab.place / "big"
    folder.mkdir(mode=0o755)
    left = BIG_BYTES_QUICK if lab.quick else BIG_BYTES
    with (folder / "big.txt").open("wb") as file:
        while left > 0:
            for _, path in lab.corpus.files:
                data = path.read_bytes()[:left]
                file.write(data)
                left -= len(data)
                if left <= 0:
                    break
    return folder


def _peak(server: Server, connection: str) -> Memory:
    with processes.sampled(server.pid) as peaks:
        server.sync(connection)
    return peaks


def _write_disk(table: Table, what: str, folder: Path, server: Server, connection: str, empty_mb: float) -> None:
    source_mb = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    chunks, database_mb = server.chunks(connection), server.database_mb() - empty_mb
    table.add(
        what,
        number(source_mb, 1),
        number(chunks, 0),
        number(database_mb, 1),
        number(database_mb / chunks * 1_000, 2),
        number(database_mb / source_mb, 1),
    )


def _write(table: Table, what: str, peaks: list[Memory], bound: str) -> None:
    table.add(
        what,
        spread((one.server for one in peaks), digits=0),
        spread((one.postgres for one in peaks), digits=0),
        spread((one.together for one in peaks), digits=0),
        number(sum(one.samples for one in peaks), 0),
        bound,
    )
