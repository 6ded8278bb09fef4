"""Maintains what search needs: the present form of words, indexes over vectors and counts of words. This takes minutes,
so it has its own thread; the keeper says when it may run."""

import threading
import time
from collections.abc import Sequence

import structlog
from sqlalchemy.exc import DBAPIError

from ..db import indexes, wording
from ..db.session import Database, first_line, is_locked, is_outage
from ..settings import Settings
from ..text.identifiers import index_terms

LOCKED_WAIT_S = 1.0
FAILED_WAIT_S = 300.0  # after a failed build: there may have been no space
STOP_S = 10.0

log = structlog.get_logger(__name__)


class Upkeep:
    """Does one round of due work at each ``kick``."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._least_chunks = settings.vector_index_chunks
        self._memory_mb = settings.vector_index_memory_mb
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="upkeep", daemon=True)
        self._builder: indexes.Builder | None = None
        self._warned: set[str] = set()

    def start(self) -> None:
        self._thread.start()

    def kick(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        """Stop the thread. A build under way is cancelled; the next keeper starts it again."""
        self._stopping.set()
        self._wake.set()
        if (builder := self._builder) is not None:
            builder.cancel()
        self._thread.join(STOP_S)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            try:
                self._round()
            except Exception as error:  # the outermost loop of this thread: it must not end
                if self._stopping.is_set():
                    return
                if is_outage(error):
                    log.warning("database_unreachable", error=first_line(error))
                else:
                    log.error("upkeep_failed", exc_info=error)
                    self._stopping.wait(FAILED_WAIT_S)

    def _round(self) -> None:
        if self._database.room.shortage() is not None:
            return  # an index takes room
        self._word_anew()
        with self._database.session() as session:
            found = indexes.list_to_check(session)
        for collection_id in found:
            if self._stopping.is_set():
                return
            with self._database.session() as session:
                if (chunks := indexes.count(session, collection_id)) is not None:
                    log.info("words_counted", collection=str(collection_id), chunks=chunks)
        with self._database.session() as session:
            tasks = indexes.list_due(session, least_chunks=self._least_chunks)
            self._warn_once(indexes.list_too_wide(session, least_chunks=self._least_chunks))
        if tasks and not self._stopping.is_set():
            self._carry_out(tasks)

    def _word_anew(self) -> None:
        """Bring the words of collections of an earlier release into the present form, batch by batch. What was done
        stays done if the process dies."""
        with self._database.session() as session:
            found = wording.list_due(session)
        for collection_id in found:
            changed, is_done = 0, False
            while not is_done:
                if self._stopping.is_set():
                    return
                try:
                    with self._database.session() as session:
                        count, is_done = wording.word_anew(session, collection_id, index_terms)
                    changed += count
                except DBAPIError as error:
                    if not is_locked(error):
                        raise
                    self._stopping.wait(LOCKED_WAIT_S)  # a job is writing these entities
            log.info("worded_anew", collection=str(collection_id), chunks=changed)

    def _carry_out(self, tasks: Sequence[indexes.Task]) -> None:
        with indexes.builder(self._database, memory_mb=self._memory_mb) as builder:
            if builder is None:
                return
            self._builder = builder
            try:
                for task in tasks:
                    if self._stopping.is_set():
                        return
                    what = "vector_index_dropped" if task.dimensions is None else "vector_index_built"
                    began_at = time.monotonic()
                    builder.carry_out(task)
                    log.info(
                        what,
                        index=task.name,
                        collection=task.collection,
                        chunks=task.chunks,
                        seconds=round(time.monotonic() - began_at, 1),
                    )
            finally:
                self._builder = None

    def _warn_once(self, found: Sequence[tuple[str, int]]) -> None:
        for collection, dimensions in found:
            if collection not in self._warned:
                self._warned.add(collection)
                log.warning(
                    "no_vector_index", collection=collection, dimensions=dimensions, most=indexes.MOST_DIMENSIONS
                )
