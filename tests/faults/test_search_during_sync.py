"""Searches while everything is being updated: each finds what it looks for, in its old or its new version."""

import random
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from invariants import agree
from running import Running, Server
from servers.scripted_server import ScriptedServer

COUNT = 1_000
SEARCHERS = 2


def marks(n: int) -> list[str]:
    """What only one entity holds, in several shapes; the last one is a plain word."""
    letters = "".join("bdfgklmnpr"[int(digit)] + "aeiou"[int(digit) // 2] for digit in f"{n:04}")
    return [f"stable{n}", f"ZQMARK{n}", f"zq-mark-{n}", f"zq_mark_{n}.py", letters]


def version(number: int) -> list[dict[str, Any]]:
    """Each entity has marks of its own that stay, and tells which version it is of."""
    return [
        {
            "id": f"item-{n:04}",
            "name": f"item {n}",
            "version": str(number),
            "text": f"The {' and '.join(marks(n))} of entity {n}. It is of version v{number}x.\n\n"
            + f"More of {number} in linux/kernel.c. " * 20,
        }
        for n in range(COUNT)
    ]


class Searcher:
    """Asks for one entity after the other, by a mark that stays, alone or beside words that all of them hold."""

    def __init__(self, server: Server, collection: str, seed: int) -> None:
        self._http = httpx.Client(base_url=server.url, timeout=60)
        self._path = f"/collections/{collection}/search/instant"
        self._chance = random.Random(seed)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._search, daemon=True)
        self.took_s: list[float] = []
        self.seen: list[tuple[int, str]] = []
        self.missed: list[str] = []

    def __enter__(self) -> "Searcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(60)
        self._http.close()

    def _search(self) -> None:
        while not self._stopping.is_set():
            number = self._chance.randrange(COUNT)
            body = {
                "query": self._chance.choice(["{}", "more of version {}", "linux/kernel.c entity {}"]).format(
                    self._chance.choice(marks(number))
                ),
                "limit": 10,
                "retrieval_strategy": self._chance.choice(["hybrid", "keyword"]),
                "group": "chunk",
            }
            began_at = time.monotonic()
            try:
                answer = self._http.post(self._path, json=body)
            except httpx.HTTPError as error:
                self.missed.append(f"{number}: {error!r}")
                continue
            self.took_s.append(time.monotonic() - began_at)
            if answer.status_code != 200:
                self.missed.append(f"{number}: {answer.status_code} {answer.text[:200]}")
                continue
            mine = [
                hit
                for hit in answer.json()["results"]
                if hit["airweave_system_metadata"]["original_entity_id"] == f"item-{number:04}"
            ]
            told = {word for hit in mine for word in ("v1x", "v2x", "v3x") if word in hit["textual_representation"]}
            if len(told) == 1:
                self.seen.append((number, told.pop()))
            else:
                self.missed.append(f"{number}: {len(mine)} passages, of {sorted(told) or 'no version'}")


@pytest.mark.fault("F41", on="temporal")
def test_no_search_misses_an_entity_while_a_thousand_are_updated(
    running: Running, server: Server, source: ScriptedServer, say: Callable[[str], None]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    source.page_size = 50
    source.partitions["a"] = version(1)
    collection = server.collection()
    connection = server.connect_to(source, collection=collection)
    assert server.sync(connection, 120)["entities_inserted"] == COUNT
    searchers = [Searcher(server, collection, seed + number) for number in range(SEARCHERS)]
    source.latency_s = 0.15
    with searchers[0], searchers[1]:
        for number in (2, 3):
            source.partitions["a"] = version(number)
            assert server.sync(connection, 180)["entities_updated"] == COUNT
    missed = [line for searcher in searchers for line in searcher.missed]
    assert missed == [], f"seed {seed}: {len(missed)} of them: {missed[:5]}"
    for searcher in searchers:  # who has seen the new version of an entity never sees an older one
        last: dict[int, str] = {}
        for number, told in searcher.seen:
            assert last.get(number, "v1x") <= told, (
                f"seed {seed}: entity {number} went back from {last[number]} to {told}"
            )
            last[number] = told
    took_s = sorted(took for searcher in searchers for took in searcher.took_s)
    told = [told for searcher in searchers for _, told in searcher.seen]
    assert len(set(told)) >= 2, "no search fell into a sync"
    p95_ms = statistics.quantiles(took_s, n=20)[-1] * 1000
    say(
        f"seed {seed}: {len(took_s)} searches, p50 {statistics.median(took_s) * 1000:.0f} ms, p95 {p95_ms:.0f} ms, "
        f"longest {took_s[-1] * 1000:.0f} ms; found of v1, v2, v3: {[told.count(f'v{n}x') for n in (1, 2, 3)]}"
    )
    agree(running, connection, source.listed())
