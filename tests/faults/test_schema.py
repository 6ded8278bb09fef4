"""A source whose schema changes between syncs: the index follows, and a new primary key deletes nothing by itself."""

from typing import Any

import pytest

from invariants import agree, content
from running import Running, Server
from servers.scripted_server import ScriptedServer, items

COUNT = 40


def rows(*, version: str, **columns: Any) -> list[dict[str, Any]]:
    """Rows of a table: what is callable makes a column's value of the row's number."""
    made = items(COUNT, version=version)
    for number, row in enumerate(made):
        fields = {name: value(number) if callable(value) else value for name, value in columns.items()}
        told = [f"row{number} of the table.", *(f"{name} is {value}." for name, value in fields.items())]
        row |= {"text": " ".join(told), "fields": fields}
    return made


def connect(server: Server, source: ScriptedServer) -> tuple[str, str]:
    collection = server.collection()
    return collection, server.connect_to(source, collection=collection)


def shown(server: Server, collection: str) -> dict[str, dict[str, Any]]:
    """What search shows of each row's fields."""
    hits = server.search(collection, "row of the table", limit=1000)
    return {hit["airweave_system_metadata"]["original_entity_id"]: hit["raw_source_fields"] for hit in hits}


def the_same(running: Running, server: Server, source: ScriptedServer, collection: str, connection: str) -> None:
    """The index holds the rows as they are at the source, and nothing of what they were."""
    there = {row["id"]: row for row in source.partitions["a"]}
    assert shown(server, collection) == {id: row["fields"] for id, row in there.items()}
    assert content(running, connection).keys() == there.keys()
    agree(running, connection, there.values())


@pytest.mark.fault("F27", on="temporal")
def test_columns_that_come_go_and_change_are_followed(running: Running, server: Server, source: ScriptedServer) -> None:
    first = {"title": lambda n: f"title{n}", "price": lambda n: n, "note": "oldnote"}
    schemas: dict[str, dict[str, Any]] = {
        "as it was": first,
        "one added": {**first, "colour": lambda n: f"colour{n}"},
        "one renamed": {"heading": lambda n: f"title{n}", "price": lambda n: n, "note": "oldnote", "colour": "red"},
        "one dropped": {"heading": lambda n: f"title{n}", "price": lambda n: n, "colour": "red"},
        "a number is a text": {"heading": lambda n: f"title{n}", "price": lambda n: f"{n}.00 EUR", "colour": "red"},
        "a text is a list": {"heading": lambda n: [f"title{n}", "x"], "price": lambda n: {"eur": n}, "colour": None},
        "none is left": {},
        "as it was again": first,
    }
    collection, connection = connect(server, source)
    for number, (what, columns) in enumerate(schemas.items()):
        source.partitions["a"] = rows(version=str(number), **columns)
        job = server.sync(connection)
        assert (job["status"], job["entities_failed"], job["held_deletes"]) == ("completed", 0, 0), (what, job)
        assert job["entities_deleted"] == 0, what
        assert job["entities_updated" if number else "entities_inserted"] == COUNT, (what, job)
        the_same(running, server, source, collection, connection)
    for gone in ("colour3", "red", "EUR"):
        assert server.found(collection, gone, retrieval_strategy="keyword") == [], gone
    job = server.sync(connection)
    assert (job["entities_kept"], job["entities_updated"]) == (COUNT, 0)


@pytest.mark.fault("F27", on="temporal")
def test_columns_that_change_while_they_are_read_are_right_after_the_next_sync(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    old = rows(version="1", title="old", price=lambda n: n)
    new = rows(version="2", heading="new", price=lambda n: str(n))
    source.partitions["a"] = old
    collection, connection = connect(server, source)
    server.sync(connection)
    source.partitions["a"] = old[:20] + [row | {"version": "1b"} for row in old[20:]]
    for row in new:
        source.step(after={"partition": "a", "page": 1}, do="put", partition="a", item=row)
    job = server.sync(connection)
    assert (job["status"], job["entities_deleted"]) == ("completed", 0)
    fields = shown(server, collection)
    assert fields == {row["id"]: (old if number < 20 else new)[number]["fields"] for number, row in enumerate(new)}
    assert server.sync(connection)["entities_updated"] == 20
    the_same(running, server, source, collection, connection)


@pytest.mark.fault("F27", on="temporal")
def test_another_primary_key_deletes_nothing_by_itself(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    collection, connection = connect(server, source)
    source.partitions["a"] = rows(version="1", title=lambda n: f"title{n}")
    server.sync(connection)
    before = content(running, connection)
    source.partitions["a"] = [row | {"id": f"uuid-{row['id']}"} for row in source.partitions["a"]]
    for _ in range(2):  # asking again does not make it more certain
        job = server.sync(connection)
        assert (job["status"], job["entities_deleted"], job["held_deletes"]) == ("completed", 0, COUNT)
        found = content(running, connection)
        assert {id: found.get(id) for id in before} == before
        assert len(found) == 2 * COUNT
    (plan,) = server.get(f"/source-connections/{connection}/held-deletes")
    assert {entity["entity_id"] for entity in plan["entities"]} == before.keys()
    assert len(server.found(collection, "title7", retrieval_strategy="keyword")) == 2

    approval = server.post(f"/source-connections/{connection}/held-deletes/{plan['id']}/approve")
    assert server.finish(connection, approval["id"])["entities_deleted"] == COUNT
    the_same(running, server, source, collection, connection)
