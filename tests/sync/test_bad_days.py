"""Sources on their bad days: nothing that exists is deleted, nothing is lost, and the status tells the truth."""

import time
from math import nan
from typing import Any

import pytest
from sqlalchemy import text

from airweave_server.db.session import Database
from invariants import agree, hold
from running import Running, Server
from servers.scripted_server import ScriptedServer, items

PATIENCE: dict[str, Any] = {"backoff_s": 0.02, "attempts": 3, "timeout_s": 1, "total_s": 2}


def connect(server: Server, source: ScriptedServer, kind: str = "scripted", **config: Any) -> tuple[str, str]:
    collection = server.collection()
    return collection, server.connect_to(source, kind, collection=collection, **{**PATIENCE, **config})


def indexed(server: Server, connection: str) -> set[str]:
    return {name for name, entry in server.ledger(connection).items() if entry["chunks"]}


def counts(job: dict[str, Any]) -> dict[str, int]:
    names = ("inserted", "updated", "deleted", "kept", "skipped", "failed")
    return {name: job[f"entities_{name}"] for name in names if job[f"entities_{name}"]}


@pytest.mark.fault("F8", on="temporal")
def test_a_source_that_fails_on_page_six_of_ten_fails_the_job_and_deletes_nothing(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    before = items(1_000)
    source.partitions["a"], source.page_size = items(1_000), 100
    collection, connection = connect(server, source)
    assert counts(server.sync(connection)) == {"inserted": 1_000}
    for number in range(1_000):
        source.partitions["a"][number] |= {"version": "2", "text": f"second text of number{number}"}
    source.fault("status", status=503, page=5)
    job = server.sync(connection)
    assert job["status"] == "failed"
    assert "'a'" in job["error"]
    assert "503" in job["error"]
    assert job["entities_deleted"] == 0
    assert job["entities_updated"] == 500
    hold(running, job, listed=500)
    agree(running, connection, source.partitions["a"][:500] + before[500:])
    assert server.found(collection, "number499")[0] == "item-0499"
    assert server.found(collection, "worditem777")[0] == "item-0777"

    source.faults.clear()
    resumed = server.sync(connection)
    assert resumed["status"] == "completed"
    assert resumed["resumed_from"] == job["id"]
    assert resumed["entities_updated"] == 500
    assert server.found(collection, "number777")[0] == "item-0777"
    hold(running, job, resumed)
    agree(running, connection, source.partitions["a"])


def test_a_partition_that_cannot_be_read_does_not_keep_the_others_from_being_read_again(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions |= {"a": items(5), "b": items(5, prefix="other")}
    source.fault("status", status=500, partition="b")
    connection = server.connect_to(source, attempts=1)
    first = server.sync(connection)
    assert (first["status"], first["entities_inserted"]) == ("failed", 5)
    source.partitions["a"] = items(6, version="2")
    second = server.sync(connection)
    assert (second["status"], second["resumed_from"], second["entities_encountered"]) == ("failed", first["id"], 0)
    third = server.sync(connection)
    assert (third["status"], third["resumed_from"]) == ("failed", None)
    assert (third["entities_inserted"], third["entities_updated"]) == (1, 5)
    hold(running, third)


@pytest.mark.fault("F6", on="temporal")
def test_429_500_resets_and_truncated_answers_are_ridden_out(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(80)
    _, connection = connect(server, source, attempts=5)
    assert counts(server.sync(connection)) == {"inserted": 80}
    source.partitions["a"] = items(80, version="2")
    source.log.clear()
    source.seed(7)
    source.fault("status", status=429, retry_after="1", page=2, times=2)
    source.fault("status", status=500, probability=0.3)
    source.fault("reset", page=4, times=1)
    source.fault("truncate", page=5, times=1)
    source.fault("cut", page=6, times=1)
    job = server.sync(connection)
    assert job["status"] == "completed"
    assert counts(job) == {"updated": 80}
    hold(running, job, listed=80)
    agree(running, connection, source.partitions["a"])
    assert len(source.log) < 9 * 5
    refused = next(entry for entry in source.log if entry["answer"] == 429)
    after = next(entry for entry in source.log if entry["at"] > refused["at"])
    assert after["at"] - refused["at"] >= 0.95


@pytest.mark.fault("F6", on="temporal")
def test_a_long_retry_after_frees_the_thread_and_is_no_failure(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(20)
    source.fault("status", status=429, retry_after="2", page=1, times=1)
    _, connection = connect(server, source, patience_s=0.5)
    job = server.run(connection)
    waiting = server.wait_for(lambda: server.job(connection, job), lambda seen: seen["waiting_for"] is not None)
    assert (waiting["waiting_for"], waiting["status"]) == ("source", "running")
    done = server.finish(connection, job)
    assert (done["status"], counts(done)) == ("completed", {"inserted": 20})
    refused, after = [entry for entry in source.log if entry["page"] == 1]
    assert after["at"] - refused["at"] >= 1.95
    hold(running, done, listed=20)
    agree(running, connection, source.partitions["a"])


@pytest.mark.fault("F7", on="temporal")
def test_a_source_that_hangs_or_drips_ends_the_job_and_leaves_others_alone(running: Running, server: Server) -> None:
    with ScriptedServer() as hanging, ScriptedServer() as dripping:
        started = []
        for source, kind in ((hanging, "hang"), (dripping, "drip")):
            source.partitions["a"] = items(20)
            source.fault(kind, page=1)
            _, connection = connect(server, source, attempts=1, total_s=1)
            started.append((connection, server.run(connection)))
        other = server.connect(
            server.collection(), "stub", {"entity_count": 5}, authentication={"credentials": {"stub_key": "x"}}
        )
        assert server.sync(other)["status"] == "completed"
        assert [server.job(*one)["status"] for one in started] == ["running", "running"]
        for connection, job in started:
            ended = server.finish(connection, job)
            assert (ended["status"], ended["error_kind"]) == ("failed", "source_stalled")
            assert counts(ended) == {"inserted": 10}
            hold(running, ended)


@pytest.mark.fault("F7", on="temporal")
def test_a_source_that_never_comes_back_is_given_up_and_its_thread_replaced(apart: Running) -> None:
    server = apart.start(SOURCE_STALL_S="1", JOB_THREADS="1")
    frozen = server.connect(server.collection(), "frozen", {"seconds": 30})
    job = server.run(frozen)
    server.wait_for(lambda: server.job(frozen, job), lambda seen: seen["phase"] == "read")
    other = server.connect(
        server.collection(), "stub", {"entity_count": 5}, authentication={"credentials": {"stub_key": "x"}}
    )
    waiting = server.run(other)
    ended = server.finish(frozen, job)
    assert (ended["status"], ended["error_kind"], ended["entities_deleted"]) == ("failed", "source_stalled", 0)
    assert ended["duration_seconds"] < 10
    done = server.finish(other, waiting)
    assert (done["status"], done["duration_seconds"] < 10) == ("completed", True)
    hold(apart, ended, done)


@pytest.mark.fault("F9", on="temporal")
def test_an_empty_listing_is_held_and_an_approval_deletes(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(60)
    collection, connection = connect(server, source)
    server.sync(connection)
    source.partitions["a"] = []
    job = server.sync(connection)
    assert (job["status"], job["entities_deleted"], job["held_deletes"]) == ("completed", 0, 60)
    (plan,) = server.get(f"/source-connections/{connection}/held-deletes")
    assert plan["total"] == 60
    assert plan["entities"][0] == {"entity_id": "item-0000", "name": "item 0"}
    hold(running, job, listed=0)
    agree(running, connection, items(60))

    source.partitions["a"] = items(1)  # one of them is back before anybody decides
    approval = server.post(f"/source-connections/{connection}/held-deletes/{plan['id']}/approve")
    done = server.finish(connection, approval["id"])
    assert (done["status"], done["entities_deleted"], done["held_deletes"]) == ("completed", 59, 0)
    hold(running, job, done)
    agree(running, connection, source.partitions["a"])
    assert server.found(collection, "worditem33", retrieval_strategy="keyword") == []
    assert server.get(f"/source-connections/{connection}/held-deletes") == []


@pytest.mark.fault("F9", on="in_process")
def test_a_listing_that_ends_early_deletes_nothing(running: Running, server: Server, source: ScriptedServer) -> None:
    source.partitions["a"] = items(100)
    _, connection = connect(server, source)
    server.sync(connection)
    source.fault("end", page=4)
    job = server.sync(connection)
    assert (job["status"], job["entities_deleted"], job["held_deletes"]) == ("completed", 0, 50)
    hold(running, job, listed=50)
    agree(running, connection, source.partitions["a"])
    source.faults.clear()
    assert counts(server.sync(connection)) == {"kept": 100}
    assert server.get(f"/source-connections/{connection}/held-deletes") == []
    agree(running, connection, source.partitions["a"])


@pytest.mark.fault("F9", on="in_process")
def test_held_deletes_can_be_dismissed_once(running: Running, server: Server, source: ScriptedServer) -> None:
    source.partitions["a"] = items(30)
    _, connection = connect(server, source)
    server.sync(connection)
    source.partitions["a"] = items(10)
    assert server.sync(connection)["held_deletes"] == 20
    (plan,) = server.get(f"/source-connections/{connection}/held-deletes")
    server.post(f"/source-connections/{connection}/held-deletes/{plan['id']}/dismiss")
    assert server.get(f"/source-connections/{connection}/held-deletes") == []
    again = server.http.post(f"/source-connections/{connection}/held-deletes/{plan['id']}/approve")
    assert again.status_code == 400
    hold(running)
    agree(running, connection, items(30))


@pytest.mark.fault("F10", on="in_process")
def test_exactly_the_ten_that_were_removed_are_deleted(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(1000)
    source.page_size = 100
    collection, connection = connect(server, source)
    server.sync(connection)
    gone = {f"item-{number:04}" for number in range(0, 1000, 100)}
    source.partitions["a"] = [item for item in items(1000) if item["id"] not in gone]
    job = server.sync(connection)
    assert counts(job) == {"deleted": 10, "kept": 990}
    hold(running, job, listed=990)
    agree(running, connection, source.partitions["a"])
    assert server.found(collection, "worditem300", retrieval_strategy="keyword") == []
    assert gone.isdisjoint(server.ledger(connection))


@pytest.mark.fault("F11", on="in_process")
def test_a_source_whose_listing_can_skip_deletes_only_after_two_full_jobs(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(60)
    _, connection = connect(server, source, kind="scripted_skipping")
    server.sync(connection)
    source.step(after={"partition": "a", "page": 2}, do="remove", partition="a", id="item-0005")
    first = server.sync(connection)  # the removal shifts item-0030 out of page 3: it is alive and unseen
    second = server.sync(connection)  # now item-0030 is seen again, and item-0005 is missed for the first time
    assert (first["entities_deleted"], second["entities_deleted"]) == (0, 0)
    agree(running, connection, items(60))
    third = server.sync(connection)
    assert third["entities_deleted"] == 1
    hold(running, first, second, third, listed=59)
    agree(running, connection, source.partitions["a"])


@pytest.mark.fault("F12", on="in_process")
def test_malformed_items_fail_alone_and_their_former_version_stays(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(100)
    collection, connection = connect(server, source)
    server.sync(connection)
    changed: list[Any] = items(100)
    changed[3] = {"id": "item-0003", "name": "item 3", "text": {"no": "text"}, "version": "2"}
    changed += [
        {"name": "nothing but a name", "text": "no id"},
        {"id": 12, "text": "a number as id"},
        {"id": "nul\x00id", "text": "nul\x00text of badger77", "version": "1"},
        {"id": "\ud800lone", "text": "lone surrogate \ud800 of badger78", "version": "1"},
        {"id": "long" * 1250, "text": "a long id of badger79", "version": "1"},
        {
            "id": "fields",
            "text": "fields of badger80",
            "fields": {"n": [1e400, nan], "deep": {"nul": "\x00"}},
            "version": "1",
        },
        "just a text",
    ]
    source.partitions["a"] = changed
    job = server.sync(connection)
    assert job["status"] == "completed"
    assert counts(job) == {"inserted": 4, "kept": 99, "failed": 4}
    failed = server.ledger(connection, state="failed")
    assert len(failed) == 4
    assert all(entry["reason"].startswith("malformed: ") for entry in failed.values())
    assert server.found(collection, "worditem3")[0] == "item-0003"
    for number in range(77, 81):
        assert server.found(collection, f"badger{number}", retrieval_strategy="keyword"), number
    again = server.sync(connection)
    assert counts(again) == {"kept": 103, "failed": 4}
    hold(running, job, again, listed=107)


@pytest.mark.fault("F15", on="in_process")
def test_zero_entities_at_first_complete_and_later_are_held(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = []
    _, connection = connect(server, source)
    first = server.sync(connection)
    assert (first["status"], counts(first)) == ("completed", {})
    source.partitions["a"] = items(3)
    server.sync(connection)
    source.partitions["a"] = []
    later = server.sync(connection)
    assert (later["status"], later["held_deletes"], later["entities_deleted"]) == ("completed", 3, 0)
    hold(running, first, later, listed=0)
    agree(running, connection, items(3))


@pytest.mark.fault("F16", on="in_process")
def test_one_entity_listed_twice_is_one_and_its_last_word_holds(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    twice = items(30)
    twice.insert(5, {"id": "item-0002", "name": "item 2", "text": "the last word about ferret55", "version": "2"})
    twice.append({"id": "item-0007", "name": "item 7", "text": "the last word about ferret56", "version": "2"})
    source.partitions["a"] = twice
    collection, connection = connect(server, source)
    job = server.sync(connection)
    assert counts(job) == {"inserted": 30}
    assert server.found(collection, "ferret55")[0] == "item-0002"
    assert server.found(collection, "ferret56")[0] == "item-0007"
    assert server.found(collection, "worditem7", retrieval_strategy="keyword") == []
    hold(running, job, listed=30)
    agree(running, connection, twice)


def test_what_is_taken_back_while_it_is_being_written_goes(server: Server, source: ScriptedServer) -> None:
    listed = items(1_000)  # as many as are looked up at once: what follows is looked up while the last ones are written
    source.page_size = 2_000
    source.partitions["a"] = [*listed, {"id": listed[-1]["id"], "deleted": True}, items(1, start=1_000)[0]]
    _, connection = connect(server, source)
    assert counts(server.sync(connection)) == {"inserted": 1_001, "deleted": 1}
    assert indexed(server, connection) == {item["id"] for item in [*listed[:-1], *items(1, start=1_000)]}


@pytest.mark.fault("F16", on="temporal")
def test_two_connections_of_one_collection_never_touch_each_other(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(20)
    collection, one = connect(server, source)
    body = {"url": source.url, **PATIENCE}
    other = server.connect(collection, "scripted", body, authentication={"credentials": {"token": "hush-hush"}})
    server.sync(one)
    assert counts(server.sync(other)) == {"inserted": 20}
    source.partitions["a"] = items(18)
    assert counts(server.sync(one)) == {"deleted": 2, "kept": 18}
    hold(running)
    agree(running, one, items(18))
    agree(running, other, items(20))


@pytest.mark.fault("F11", on="temporal")
def test_an_entity_that_moves_between_partitions_in_the_middle_is_kept(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions |= {"a": items(30, prefix="a"), "b": items(30, prefix="b")}
    _, connection = connect(server, source)
    server.sync(connection)
    source.step(after={"partition": "a", "page": 0}, do="move", partition="a", id="a-0029", to="b")
    job = server.sync(connection)
    assert job["entities_deleted"] == 0
    assert counts(job) == {"kept": 60}
    hold(running, job)
    agree(running, connection, source.partitions["a"] + source.partitions["b"])


@pytest.mark.fault("F9", on="in_process")
def test_a_dropped_partition_is_held(running: Running, server: Server, source: ScriptedServer) -> None:
    source.partitions |= {"a": items(30, prefix="a"), "b": items(3, prefix="b")}
    _, connection = connect(server, source)
    server.sync(connection)
    del source.partitions["b"]
    job = server.sync(connection)
    assert (job["entities_deleted"], job["held_deletes"]) == (0, 3)
    hold(running, job, listed=30)
    agree(running, connection, items(30, prefix="a") + items(3, prefix="b"))


@pytest.mark.fault("F8", on="temporal")
def test_one_partition_that_fails_does_not_stop_the_others(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions |= {"a": items(20, prefix="a"), "b": items(20, prefix="b"), "c": items(20, prefix="c")}
    _, connection = connect(server, source)
    source.fault("status", status=500, partition="b")
    job = server.sync(connection)
    assert job["status"] == "failed"
    assert "'b'" in job["error"]
    hold(running, job, listed=40)
    agree(running, connection, source.partitions["a"] + source.partitions["c"])


@pytest.mark.fault("F17", on="temporal")
def test_expired_credentials_end_the_job_at_once_and_a_new_sign_in_goes_on_from_there(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(100)
    source.token = "hush-hush-token"
    source.expires_at_request = 6
    _, connection = connect(server, source)
    job = server.sync(connection)
    assert (job["status"], job["error_category"]) == ("failed", "api_key_invalid")
    assert "hush" not in job["error"]
    assert server.get(f"/source-connections/{connection}")["status"] == "needs_reauth"
    assert len(source.log) < 15
    hold(running, job)
    agree(running, connection, items(job["entities_inserted"]))
    source.token, source.expires_at_request = "another-token", None
    answer = server.http.patch(
        f"/source-connections/{connection}", json={"authentication": {"credentials": {"token": "another-token"}}}
    )
    assert answer.status_code == 200, answer.text
    done = server.sync(connection)
    assert done["status"] == "completed"
    assert done["entities_inserted"] == 100 - job["entities_inserted"]
    hold(running, job, done)
    agree(running, connection, source.partitions["a"])


def test_an_incremental_source_reads_only_what_changed(server: Server, source: ScriptedServer) -> None:
    for item in items(50):
        source.put("a", item)
    _, connection = connect(server, source, kind="scripted_incremental")
    assert server.sync(connection)["mode"] == "full"
    source.put("a", {**items(1)[0], "text": "changed marmot9", "version": "2"})
    source.remove("a", "item-0001")
    job = server.sync(connection)
    assert (job["mode"], counts(job)) == ("incremental", {"updated": 1, "deleted": 1})
    assert len(indexed(server, connection)) == 49


@pytest.mark.fault("F9", on="in_process")
def test_what_a_skipped_subtree_holds_is_kept(running: Running, server: Server, source: ScriptedServer) -> None:
    inside = [{**item, "id": f"dir/{item['id']}"} for item in items(5)]
    crumbs = [{**item, "folder": "dir"} for item in items(5, prefix="crumb")]
    source.partitions["a"] = items(40, prefix="out") + inside + crumbs
    _, connection = connect(server, source)
    server.sync(connection)
    source.partitions["a"] = [*items(39, prefix="out"), {"id": "dir", "skip": "403 Forbidden", "subtree": True}]
    job = server.sync(connection)
    assert counts(job) == {"deleted": 1, "kept": 39, "skipped": 1}
    assert server.ledger(connection, state="skipped")["dir"]["reason"] == "403 Forbidden"
    hold(running, job, listed=40)
    agree(running, connection, items(39, prefix="out") + inside + crumbs)


def test_failed_entities_can_be_tried_again_one_or_all(server: Server, source: ScriptedServer) -> None:
    source.partitions["a"] = [*items(5), {"id": "odd", "text": 5, "version": "1"}]
    _, connection = connect(server, source)
    assert counts(server.sync(connection)) == {"inserted": 5, "failed": 1}
    missing = server.http.post(f"/source-connections/{connection}/entities/retry", json={"entity_ids": ["nobody"]})
    assert missing.status_code == 404
    source.put("a", {"id": "odd", "text": "well again", "version": "1"})
    job = server.post(f"/source-connections/{connection}/entities/retry", {"entity_ids": ["odd"]})
    done = server.finish(connection, job["id"])
    assert counts(done) == {"inserted": 1, "kept": 5}
    assert server.ledger(connection)["odd"]["state"] == "indexed"


def test_a_changed_configuration_ends_the_running_job_and_starts_a_new_one(
    server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(60)
    source.latency_s = 0.3
    _, connection = connect(server, source)
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["status"] == "running")
    answer = server.http.patch(
        f"/source-connections/{connection}", json={"config": {"url": source.url, **PATIENCE, "lazy": True}}
    )
    assert answer.status_code == 200, answer.text
    old = server.job(connection, job)
    assert (old["status"], old["error"]) == ("cancelled", "configuration changed")
    source.latency_s = 0
    newest = server.get(f"/source-connections/{connection}/jobs", limit=1)[0]
    assert newest["id"] != job
    assert server.finish(connection, newest["id"])["status"] == "completed"
    assert len(indexed(server, connection)) == 60


@pytest.mark.fault("F12", on="in_process")
def test_what_the_database_refuses_fails_alone(
    running: Running, server: Server, source: ScriptedServer, fresh_database: Database
) -> None:
    with fresh_database.session() as session:
        session.execute(text("alter table chunk add constraint poison check (text not like '%POISON_IN_HERE%')"))
    source.partitions["a"] = items(150)
    for number in (3, 77):
        source.partitions["a"][number]["text"] += " POISON_IN_HERE"
    _, connection = connect(server, source)
    job = server.sync(connection)
    with fresh_database.session() as session:
        session.execute(text("alter table chunk drop constraint poison"))
    assert (job["status"], counts(job)) == ("completed", {"inserted": 148, "failed": 2})
    failed = server.ledger(connection, state="failed")
    assert set(failed) == {"item-0003", "item-0077"}
    assert all(entry["reason"].startswith("refused by the database") for entry in failed.values())
    hold(running, job, listed=150)
    agree(running, connection, [item for item in source.partitions["a"] if item["id"] not in failed])


@pytest.mark.fault("F19", on="temporal")
def test_counts_stay_what_they_were_once_a_job_has_ended(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(400)
    source.latency_s = 0.2
    _, connection = connect(server, source)
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_encountered"] > 0)
    server.post(f"/source-connections/{connection}/jobs/{job}/cancel")
    ended = server.finish(connection, job)
    entries = len(server.ledger(connection))
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert server.job(connection, job) == ended
        assert len(server.ledger(connection)) == entries
    assert ended["entities_encountered"] == entries
    hold(running, ended, listed=entries)


def test_a_hostile_repository_does_not_hold_up_the_server(server: Server) -> None:
    top = server.folder()
    (top / ".gitignore").write_text("**/a/**/a/**/a/**/a/b\n" * 20)
    place = top
    for _ in range(100):
        place /= "a"
        place.mkdir()
        for number in range(5):
            (place / f"{'a' * 50}{number}").write_text("text")
    connection = server.connect(server.collection(), "folder", {"path": str(top)})
    job = server.run(connection)
    waits_s = []
    while server.job(connection, job)["status"] in ("pending", "running"):
        began_at = time.monotonic()
        assert server.get("/health/live") == {"status": "alive"}
        waits_s.append(time.monotonic() - began_at)
        time.sleep(0.05)
    assert server.finish(connection, job)["entities_inserted"] == 501
    assert max(waits_s) < 1
