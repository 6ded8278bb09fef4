"""Jobs are forgotten a while after their end, but for what somebody may still need."""

from typing import Any

import psycopg

from invariants import agree, hold
from running import Running, Server, plain
from servers.scripted_server import ScriptedServer, items

TIMES = ("created_at", "started_at", "completed_at", "failed_at")


def jobs_of(server: Server, connection: str) -> list[dict[str, Any]]:
    return list(server.get(f"/source-connections/{connection}/jobs"))


def test_old_jobs_go_and_the_last_ones_and_held_deletes_stay(running: Running, source: ScriptedServer) -> None:
    server = running.start()
    source.partitions["a"] = items(60)
    connection = server.connect_to(source)
    old = [server.sync(connection) for _ in range(3)]
    source.partitions["a"] = items(30)
    holding = server.sync(connection)
    assert holding["held_deletes"] == 30
    done = server.sync(connection)
    source.fault("status", status=401, path="/items")
    last = server.sync(connection)
    assert (done["status"], last["status"]) == ("completed", "failed")
    never = server.connect_to(source)
    with psycopg.connect(plain(running.database_url)) as database:
        moved = ", ".join(f"{at} = {at} - interval '40 days'" for at in TIMES)
        database.execute(f"update sync_job set {moved}")
    server.terminate()
    server = running.start()

    kept = {last["id"], done["id"]}
    (plan,) = server.get(f"/source-connections/{connection}/held-deletes")
    kept.add(plan["sync_job_id"])  # the newest of those that hold them
    server.wait_for(lambda: {job["id"] for job in jobs_of(server, connection)}, lambda seen: seen == kept, 20)
    assert not kept & {job["id"] for job in old}
    assert jobs_of(server, never) == []
    with psycopg.connect(plain(running.database_url)) as database:
        left = database.execute(
            "select count(*) from sync_partition where job_id not in (select id from sync_job)"
        ).fetchone()
        assert left == (0,)

    source.faults.clear()
    approval = server.post(f"/source-connections/{connection}/held-deletes/{plan['id']}/approve")
    approved = server.finish(connection, approval["id"])
    assert (approved["status"], approved["entities_deleted"]) == ("completed", 30)
    hold(running, approved)
    agree(running, connection, source.listed())
    server.terminate()


def test_jobs_stay_for_the_days_that_are_set(running: Running, source: ScriptedServer) -> None:
    server = running.start()
    source.partitions["a"] = items(5)
    connection = server.connect_to(source)
    ids = {server.sync(connection)["id"] for _ in range(2)}
    server.terminate()
    server = running.start(RETENTION_DAYS="0.5")
    assert server.sync(connection)["status"] == "completed"  # after the keeper's first look
    assert ids < {job["id"] for job in jobs_of(server, connection)}
    server.terminate()
    server = running.start(RETENTION_DAYS="0.000001")
    server.wait_for(lambda: jobs_of(server, connection), lambda found: len(found) == 1, 20)
