"""Our server and its peers side by side: the same files, the same cores, one at a time, each in its own process."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from . import corpus, environments
from .lab import Lab
from .limits import limits
from .report import Table, number, spread
from .server import NO_VECTOR_INDEX, Unfit, serving

HERE = Path(__file__).parent
SHARED = {"lancedb": "0.40.0", "wordllama": "0.4.0.post1"}
PACKAGES = {
    "cocoindex": {"cocoindex": "1.0.26", "httpx": "0.28.1", **SHARED},  # httpx: for our embedder's package
    "llamaindex": {"llama-index-core": "0.14.25", **SHARED},
}
PHASE_S = 900.0
PHASES = ("initial", "nochange", "delta1")
OURS, OURS_WHOLE = "Airweave Server, words indexed", "Airweave Server, words and vectors indexed"
COLLECTION = "bench"
INDEXED = {"VECTOR_INDEX_CHUNKS": "1000"}  # the peers index vectors at any corpus size


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    package: str
    options: Sequence[str]


PEERS = (
    Peer("CocoIndex, words indexed", "cocoindex", ()),
    Peer("CocoIndex, words and vectors indexed", "cocoindex", ("--vector-index",)),
    Peer("CocoIndex with our embedder code, words indexed", "cocoindex", ("--embedder", "ours")),
    Peer(
        "CocoIndex with our embedder code, words and vectors indexed",
        "cocoindex",
        ("--embedder", "ours", "--vector-index"),
    ),
    Peer("LlamaIndex, words indexed", "llamaindex", ()),
    Peer("LlamaIndex, words and vectors indexed", "llamaindex", ("--vector-index",)),
)


@dataclass(slots=True)
class Runs:
    """The runs of one contestant, by phase. ``seconds``: the work alone. ``whole``: including the process's start and
    imports."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    whole: dict[str, list[float]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    chunks: int = 0
    peak_mb: list[float] = field(default_factory=list)
    indexes: str = ""
    unindexed: int = 0


def run(lab: Lab) -> list[Table]:
    table = Table(
        "6. Side by side with peers",
        (
            "contestant",
            "initial s",
            "docs/s",
            "chunks",
            "chunks/s",
            "unchanged s",
            "1 % changed s",
            "initial, times ours",
            "unchanged, times ours",
            "1 %, times ours",
            "indexes in the end",
            "peak MB",
            "bounded by",
        ),
    )
    starts = Table("Whole processes of the same runs", ("contestant", "initial s", "unchanged s", "1 % changed s"))
    if lab.quick:
        table.notes.append("Left out by --quick.")
        return [table]
    broken = {package: _why_not(lab, package) for package in PACKAGES}
    runs = {peer: Runs() for peer in PEERS if broken[peer.package] is None}
    ours, ours_whole = Runs(), Runs()
    for turn in range(lab.repeats):  # in turns, so that a slow minute of the machine affects all contestants
        lab.say(f"side by side, {turn + 1} of {lab.repeats}: our server")
        _ours(lab, turn, ours, ours_whole)
        for peer, found in list(runs.items()):
            lab.say(f"side by side, {turn + 1} of {lab.repeats}: {peer.name}")
            try:
                _theirs(lab, peer, turn, found)
            except Unfit as error:
                broken[peer.name] = str(error)
                del runs[peer]
    bound = "as in table 1"
    _write(table, OURS, lab.usual, ours, ours, bound)
    _write(table, OURS_WHOLE, lab.usual, ours_whole, ours_whole, f"{bound}; then building the index")
    _write_whole(starts, "Airweave Server (running already; wall of the job)", ours)
    for peer in PEERS:
        if peer in runs:
            ours_too = "--embedder" in peer.options
            bound = "CPU: the pipeline and the table's writes" if ours_too else "CPU: wordllama's embed, see the limit"
            like = ours_whole if "--vector-index" in peer.options else ours
            _write(table, peer.name, lab.usual, runs[peer], like, bound)
            _write_whole(starts, peer.name, runs[peer])
        else:
            why = broken.get(peer.name) or broken[peer.package] or "unknown"
            table.add(peer.name, *["-"] * 11, f"not run: {why}")
    _write_limits(lab, table)
    table.notes.extend(_notes(lab))
    return [table, starts]


def _ours(lab: Lab, turn: int, runs: Runs, whole: Runs) -> None:
    """Measure our server. ``runs`` ends with the job, ``whole`` when the vector index is built too. The later phases
    are the same for both, with all indexes live."""
    folder = lab.place / "ours"
    files = lab.corpus.copy(folder, lab.usual)
    try:
        with serving(lab.place, **INDEXED) as server:
            connection = server.connect(COLLECTION, folder)
            for phase in PHASES:
                due = {}
                if phase != "initial":
                    due = {
                        "inserted": 0,
                        "deleted": 0,
                        "updated": len(_edited(files, turn)) if phase == "delta1" else 0,
                    }
                began_at = perf_counter()
                sync = server.sync(connection, **due)
                for one in (runs, whole):
                    one.seconds[phase].append(sync.job_s)
                    one.whole[phase].append(sync.wall_s)
                if phase == "initial":
                    server.wait_for_index()
                    whole.seconds[phase][-1] = perf_counter() - began_at
                    for one in (runs, whole):
                        one.chunks = server.chunks(connection)
                    runs.indexes, whole.indexes = "2 GIN over words, over vectors not yet", server.indexes()
                    if NO_VECTOR_INDEX in whole.indexes:
                        raise Unfit("there is no index over vectors")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _theirs(lab: Lab, peer: Peer, turn: int, runs: Runs) -> None:
    """Measure a peer. Raises ``Unfit`` if a phase failed or did not do its work."""
    folder, state = lab.place / "theirs", lab.place / "state"
    files = lab.corpus.copy(folder, lab.usual)
    try:
        for phase in PHASES:
            words = _edited(files, turn) if phase == "delta1" else []
            due = len(files) if phase == "initial" else len(words)
            script = HERE / "peers" / f"{peer.package}_peer.py"
            began_at = perf_counter()
            output = environments.run(
                [environments.python(peer.package), script, phase, folder, state, *peer.options, "--words", *words],
                PHASE_S,
                f"{peer.name}, {phase}",
            )
            runs.whole[phase].append(perf_counter() - began_at)
            said: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
            if said["files"] != due:
                raise Unfit(f"{phase}: {said['files']} files were processed, {due} were due")
            if said["found"] != len(words):
                raise Unfit(f"{phase}: {said['found']} of {len(words)} changes are in the table, each once")
            runs.seconds[phase].append(said["seconds"])
            if phase == "initial":
                runs.chunks = said["rows"]
                runs.indexes = " + ".join(said["indexes"])
                runs.peak_mb.append(said["peak_mb"])
            runs.unindexed = max(runs.unindexed, said["unindexed"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(state, ignore_errors=True)


def _edited(files: Sequence[Path], turn: int) -> list[str]:
    """Change 1 % of the files, and return the new words."""
    return [word for _, word in corpus.edit(files, max(1, len(files) // 100), seed=300 + turn)]


def _why_not(lab: Lab, package: str) -> str | None:
    """Why the peer's virtual environment could not be created; None if it was."""
    try:
        environments.install(package, PACKAGES[package], lab.say)
    except Unfit as error:
        return str(error)
    return None


def _write(table: Table, name: str, count: int, runs: Runs, ours: Runs, bound: str) -> None:
    initial = runs.seconds["initial"]
    indexes = runs.indexes + (f"; up to {runs.unindexed:,} rows not in them" if runs.unindexed else "")
    table.add(
        name,
        spread(initial),
        spread((count / one for one in initial), digits=0),
        f"{runs.chunks:,}",
        spread((runs.chunks / one for one in initial), digits=0),
        spread(runs.seconds["nochange"], digits=2),
        spread(runs.seconds["delta1"], digits=2),
        *(_ratio(runs, ours, phase) for phase in PHASES),
        indexes,
        spread(runs.peak_mb, digits=0) if runs.peak_mb else "see table 5",
        bound,
    )


def _ratio(runs: Runs, ours: Runs, phase: str) -> str:
    """The ratio of the medians of the work alone; the range is the worst and the best that the runs allow."""
    if runs is ours:
        return "1"
    their, our = sorted(runs.seconds[phase]), sorted(ours.seconds[phase])
    middle = f"{median(their) / median(our):.1f}"
    return f"{middle} ({their[0] / our[-1]:.1f}-{their[-1] / our[0]:.1f})" if len(their) > 1 else middle


def _write_whole(table: Table, name: str, runs: Runs) -> None:
    table.add(name, *(spread(runs.whole[phase], digits=2) for phase in PHASES))


def _write_limits(lab: Lab, table: Table) -> None:
    folder = lab.place / "limits"
    lab.corpus.copy(folder, lab.usual)
    bound = limits(folder, stock=True)
    assert bound.stock_s is not None
    for what, spent_s in (("our embedder alone", bound.embed_s), ("wordllama's own embed alone", bound.stock_s)):
        table.add(
            f"limit: {what}, our chunks",
            number(spent_s),
            number(bound.files / spent_s, 0),
            f"{bound.chunks:,}",
            number(bound.chunks / spent_s, 0),
            *["-"] * 7,
            "one caller; wordllama's tokenizer has threads of its own",
        )
    table.add(
        "limit: scandir + stat alone", *["-"] * 4, number(bound.scan_s, 4), *["-"] * 6, "system calls, page cache warm"
    )
    shutil.rmtree(folder, ignore_errors=True)


def _notes(lab: Lab) -> list[str]:
    pins = ", ".join(sorted({f"{name} {pin}" for pins in PACKAGES.values() for name, pin in pins.items()}))
    return [
        f"{lab.corpus.described(lab.usual)}, {max(1, lab.usual // 100)} of them changed; peers: {pins}.",
        "Times are of the work alone: the peers' without imports (2 s and more, see the next table), ours from the "
        "job's own duration in a server that runs already, new for each repeat.",
        "The work is alike, not the same. Peers keep fp32 vectors in files of one process and cut at paragraphs up to "
        "2,000 characters, which costs nothing; we keep halves in Postgres, cut by headings and code up to the same "
        "length, index identifiers besides words, and serve searches meanwhile. 'Times ours' is with the row of ours "
        "that has the same indexes; a job of ours ends before the index over vectors is built, and is searched exactly "
        "until then.",
        "LlamaIndex notices no deleted files in this form, and reads every file to see that it is unchanged.",
        "'Our embedder code' is this project's embedder imported into the peer: what the pipeline alone makes of the "
        "difference is in those rows.",
    ]
