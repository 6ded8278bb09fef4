"""F13, F14, F31 through a real server: documents that end, hold up or fill whoever reads them, and files beyond all
measure. Each is failed, skipped or cut with its reason, all others are indexed, and the server stays up and small."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

import formats
from formats import endless_pdf
from invariants import hold, settled
from running import Running, Server

MB = 1_000_000
MOST_PSS = 700 * MB  # all our processes together


def processes(running: Running) -> list[psutil.Process]:
    """Ours, with their parsers; Postgres and Temporal stand beside."""
    own = [one.process.pid for one in (*running.servers, *running.workers) if one.process.poll() is None]
    found: list[psutil.Process] = []
    for pid in own:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    return found


def parsers(running: Running) -> list[psutil.Process]:
    found = []
    for process in processes(running):
        with suppress(psutil.Error):
            if "airweave_server.text.parser" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@contextmanager
def watched(look: Callable[[], None]) -> Iterator[None]:
    """Call ``look`` again and again meanwhile."""
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(0.3):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def well(server: Server, folder: Path) -> None:
    for number in range(30):
        (folder / f"n{number:02}.txt").write_text(f"An ordinary file, number{number}.")


@pytest.mark.fault("F13", on="temporal")
def test_documents_that_end_or_hold_up_their_reader_are_failed_alone(
    apart: Running, say: Callable[[str], None]
) -> None:
    server = apart.start(PARSE_S="2")
    folder = server.folder()
    well(server, folder)
    (folder / "a-killed.pdf").write_bytes(endless_pdf())
    (folder / "b-endless.pdf").write_bytes(endless_pdf())
    (folder / "c-good.docx").write_bytes(formats.word())
    connection = server.connect(server.collection(), "folder", {"path": str(folder)})
    killed: list[int] = []

    def kill() -> None:
        for process in parsers(apart)[:1]:
            if not killed and process.cpu_times().user > 0.9:  # its start takes 0.6
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGSEGV)
                    killed.append(process.pid)

    with watched(kill):
        job = server.sync(connection)
    assert len(killed) == 1
    assert job["status"] == "completed", job
    assert (job["entities_inserted"], job["entities_failed"]) == (31, 2)
    assert job["attempts"] == 1  # nobody else had to take over
    ledger = server.ledger(connection)
    assert "ended the parser (SIGSEGV)" in ledger["a-killed.pdf"]["reason"]
    assert ledger["b-endless.pdf"]["reason"] == "reading it takes more than 2 s"
    settled(server, connection, job)
    hold(apart, job, listed=33)
    (folder / "a-killed.pdf").write_bytes(formats.pdf([["mended"]]))
    again = server.sync(connection)
    assert (again["entities_inserted"], again["entities_failed"]) == (1, 1), again  # and the other is tried again
    say(f"failed: {ledger['a-killed.pdf']['reason']}; {ledger['b-endless.pdf']['reason']}")


def test_a_cancelled_job_does_not_wait_for_a_document(apart: Running) -> None:
    server = apart.start(PARSE_S="600")
    folder = server.folder()
    (folder / "endless.pdf").write_bytes(formats.endless_pdf())
    connection = server.connect(server.collection(), "folder", {"path": str(folder)})
    job = server.run(connection)
    server.wait_for(lambda: parsers(apart), bool)
    server.post(f"/source-connections/{connection}/jobs/{job}/cancel")
    assert server.finish(connection, job, timeout_s=60)["status"] == "cancelled"
    server.wait_for(lambda: parsers(apart), lambda left: not left, timeout_s=60)


@pytest.mark.fault("F14", on="temporal")
def test_files_beyond_all_measure_are_cut_or_skipped_in_bounded_memory(
    apart: Running, say: Callable[[str], None]
) -> None:
    apart.forker = None  # forked processes share memory, so that each would count for less
    server = apart.start(LEASE_S="5", TEMPORAL_HEARTBEAT_S="5")
    folder = server.folder()
    well(server, folder)
    with (folder / "a-long.txt").open("w") as file:
        for _ in range(100):
            file.write("A line that tells little and goes on, again.\n" * (MB // 45))
    with (folder / "b-sparse.txt").open("wb") as file:
        file.truncate(1_000 * MB)
    with (folder / "c-sparse.pdf").open("wb") as file:
        file.write(b"%PDF-1.4\n")
        file.truncate(1_000 * MB)
    (folder / "d-pages.pdf").write_bytes(formats.pdf([["one line", f"onpage{number}x"] for number in range(10_000)]))
    collection = server.collection()
    connection = server.connect(collection, "folder", {"path": str(folder), "max_file_mb": 2_000})
    most = [0]

    def weigh() -> None:
        total = 0
        for process in processes(apart):
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
        most[0] = max(most[0], total)

    with watched(weigh):
        job = server.sync(connection)
    assert job["status"] == "completed", job
    assert job["attempts"] == 1  # no lease and no heartbeat lapsed
    assert most[0] < MOST_PSS
    ledger = server.ledger(connection)
    long = ledger["a-long.txt"]
    assert (long["state"], long["truncated"]) == ("indexed", True)
    assert long["reason"] == "left out: what comes after 40 MB; what comes after 20,000 chunks"
    assert ledger["b-sparse.txt"]["reason"] == "too_large: empty, as far as it was read"
    assert ledger["c-sparse.pdf"]["reason"] == "too_large: over 512 MB"
    assert (ledger["d-pages.pdf"]["state"], ledger["d-pages.pdf"]["chunks"]) == ("indexed", 10_000)
    assert server.found(collection, "onpage7123x")[:1] == ["d-pages.pdf"]
    settled(server, connection, job)
    say(f"PSS of all our processes at most {most[0] // MB} MB")


@pytest.mark.fault("F31")
def test_hostile_archives_and_pages_are_skipped_or_cut_with_a_reason(apart: Running) -> None:
    server = apart.start()
    folder = server.folder()
    well(server, folder)
    names = ("bombs.zip", "liar.zip", "slip.zip", "maze.tar", "laughs.docx", "nested.pptx", "nested.eml", "nested.html")
    for name in names:
        (folder / name).write_bytes(formats.HOSTILE[name]())
    connection = server.connect(server.collection(), "folder", {"path": str(folder)})
    job = server.sync(connection)
    assert job["status"] == "completed", job
    for name, entry in server.ledger(connection).items():
        if name in names:
            assert entry["state"] in ("skipped", "failed") or entry["truncated"] or entry["chunks"] < 20, entry
            assert entry["reason"] or entry["state"] == "indexed"
    assert not Path("/tmp/slipped.txt").exists()
    settled(server, connection, job)
    hold(apart, job, listed=30 + len(names))
