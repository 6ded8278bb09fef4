"""Syncs of one folder: the first, one without changes, one with one touched file, and one with 1 % changed."""

from collections.abc import Sequence
from pathlib import Path

from . import corpus
from .lab import Lab
from .limits import Limits, limits
from .report import Table, number, spread
from .server import Server, Sync, Unfit, free_port, serving

UNCHANGED_RUNS = 5
MANY = 50_000
COLLECTION = "bench"
INITIAL_BOUND = (
    "CPU of both sides: cutting and embedding on one thread (see the limits), rows and word index in Postgres"
)
UNCHANGED_BOUND = "scandir + stat of each file, compared with the ledger; some ms of a job's transactions"
CHANGED_BOUND = "the unchanged sync, and the transactions, vectors and index entries of the changed documents"


def run(lab: Lab) -> list[Table]:
    initial = Table(
        "1. Initial sync",
        (
            "documents",
            "job s (API)",
            "wall s",
            "docs/s",
            "chunks",
            "chunks/s",
            "CPU s server",
            "CPU s Postgres",
            "bounded by",
        ),
    )
    unchanged = Table("2. Unchanged", ("documents", "what", "job s (API)", "wall s", "files/s (by wall)", "bounded by"))
    changed = Table(
        "3. 1 % changed",
        (
            "documents",
            "changed",
            "indexes kept up",
            "job s (API)",
            "wall s",
            "CPU s server",
            "CPU s Postgres",
            "bounded by",
        ),
    )
    for count in lab.sizes():
        _one_size(lab, count, initial, unchanged, changed)
    _many(lab, unchanged)
    _through_temporal(lab, unchanged)
    initial.notes.append("Each run on a new server and a new database: no cache of ours is warm, the page cache is.")
    initial.notes.append("CPU s ends with the job: what Postgres writes out later is not in it.")
    unchanged.notes.append(
        "Correct means: the job's counts were exactly those due, and a search found the touched file."
    )
    return [initial, unchanged, changed]


def _one_size(lab: Lab, count: int, initial: Table, unchanged: Table, changed: Table) -> None:
    folder = lab.place / f"sync-{count}"
    files = lab.corpus.copy(folder, count)
    firsts: list[Sync] = []
    chunks = 0
    repeats = lab.repeats if count == lab.usual else 1
    for turn in range(repeats):
        lab.say(f"initial sync of {count:,} documents, {turn + 1} of {repeats}")
        with serving(lab.place) as server:
            connection = server.connect(COLLECTION, folder)
            firsts.append(first := server.sync(connection, updated=0, deleted=0))
            if first.encountered != count:
                raise Unfit(f"{count} documents are there, {first.encountered} came")
            chunks = server.chunks(connection)
            if turn == repeats - 1:
                initial.notes.append(f"{count:,} documents: {_kept_out(first)}; indexes: {server.indexes()}.")
                _again(lab, server, connection, files, unchanged, changed)
    _write_initial(initial, count, chunks, firsts)
    bound = limits(folder, stock=False)
    _write_limits(initial, unchanged, bound)


def _many(lab: Lab, unchanged: Table) -> None:
    folder = lab.place / "many"
    count = 2_000 if lab.quick else MANY
    corpus.tiny(folder, count)
    files = sorted(folder.rglob("*.txt"))
    lab.say(f"unchanged syncs of {count:,} small files")
    with serving(lab.place) as server:
        connection = server.connect(COLLECTION, folder)
        server.sync(connection, inserted=count)
        _unchanged(lab, server, connection, files, unchanged, "small files, unchanged")


def _through_temporal(lab: Lab, unchanged: Table) -> None:
    folder = lab.place / "temporal"
    files = lab.corpus.copy(folder, lab.usual)
    lab.say(f"unchanged syncs of {lab.usual:,} documents through Temporal")
    ports = {"TEMPORAL_PORT": str(free_port()), "TEMPORAL_UI_PORT": str(free_port())}
    with serving(lab.place, "--temporal", **ports) as server:
        connection = server.connect(COLLECTION, folder)
        server.sync(connection, inserted=lab.usual)
        _unchanged(lab, server, connection, files, unchanged, "unchanged, through Temporal")


def _unchanged(
    lab: Lab, server: Server, connection: str, files: Sequence[Path], table: Table, what: str
) -> Sequence[Sync]:
    """Five syncs without changes, which are returned, and syncs that find one touched file."""
    count = len(files)
    server.wait_for_index()  # otherwise it is built during the next runs
    same: list[Sync] = []
    for _ in range(UNCHANGED_RUNS):
        same.append(server.sync(connection, quiet_s=_quiet_s(same), inserted=0, updated=0, deleted=0))
    touched = []
    for turn in range(lab.repeats):
        ((path, word),) = corpus.edit(files, 1, seed=100 + turn)
        touched.append(server.sync(connection, quiet_s=_quiet_s(same), inserted=0, updated=1, deleted=0))
        _must_find(server, path, word)
    for name, runs in ((what, same), ("one touched, in a random place; found", touched)):
        table.add(
            f"{count:,}",
            name,
            _jobs(runs),
            _walls(runs),
            spread((count / one.wall_s for one in runs), digits=0),
            UNCHANGED_BOUND,
        )
    return same


def _quiet_s(before: Sequence[Sync]) -> float:
    """How long not to poll a job that does at least as much work as these."""
    return 0.8 * min((one.wall_s for one in before), default=0.0)


def _again(lab: Lab, server: Server, connection: str, files: Sequence[Path], unchanged: Table, changed: Table) -> None:
    count = len(files)
    lab.say(f"unchanged and changed syncs of {count:,} documents")
    same = _unchanged(lab, server, connection, files, unchanged, "unchanged")
    few = max(1, count // 100)
    deltas = []
    for turn in range(lab.repeats):
        edited = corpus.edit(files, few, seed=200 + turn)
        deltas.append(server.sync(connection, quiet_s=_quiet_s(same), inserted=0, updated=few, deleted=0))
        for path, word in edited[:3]:
            _must_find(server, path, word)
    changed.add(
        f"{count:,}",
        f"{few:,}",
        server.indexes(),
        _jobs(deltas),
        _walls(deltas),
        spread((one.cpu.server_s for one in deltas), digits=2),
        spread((one.cpu.postgres_s for one in deltas), digits=2),
        CHANGED_BOUND,
    )


def _must_find(server: Server, path: Path, word: str) -> None:
    hits = server.search(COLLECTION, word, limit=1)
    if not hits or Path(hits[0].airweave_system_metadata.original_entity_id).name != path.name:
        raise Unfit(f"{word} was written into a file and is not found there")


def _write_initial(table: Table, count: int, chunks: int, runs: Sequence[Sync]) -> None:
    table.add(
        f"{count:,}",
        _jobs(runs, digits=1),
        _walls(runs, digits=1),
        spread((count / one.job_s for one in runs), digits=0),
        f"{chunks:,}",
        spread((chunks / one.job_s for one in runs), digits=0),
        spread(one.cpu.server_s for one in runs),
        spread(one.cpu.postgres_s for one in runs),
        INITIAL_BOUND,
    )


def _write_limits(initial: Table, unchanged: Table, bound: Limits) -> None:
    documents = f"{bound.files:,}"
    for what, spent_s in (("read", bound.read_s), ("to text and chunks", bound.cut_s), ("embed", bound.embed_s)):
        initial.add(
            f"{documents}, limit: {what} alone",
            number(spent_s, 2),
            number(spent_s, 2),
            number(bound.files / spent_s, 0),
            f"{bound.chunks:,}",
            number(bound.chunks / spent_s, 0),
            number(spent_s, 2),
            "-",
            "one thread, in one process",
        )
    unchanged.add(
        documents,
        "limit: scandir + stat alone",
        number(bound.scan_s, 4),
        number(bound.scan_s, 4),
        number(bound.files / bound.scan_s, 0),
        "system calls, page cache warm",
    )


def _kept_out(first: Sync) -> str:
    return f"{first.counts['inserted']:,} indexed, {first.counts['skipped']:,} skipped with a reason"


def _jobs(runs: Sequence[Sync], *, digits: int = 3) -> str:
    return spread((one.job_s for one in runs), digits=digits)


def _walls(runs: Sequence[Sync], *, digits: int = 3) -> str:
    return spread((one.wall_s for one in runs), digits=digits)
