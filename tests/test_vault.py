"""Credentials stand in the database as ciphertext only, show nowhere else, and survive a change of the key."""

import base64
import os
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from airweave_server import vault
from airweave_server.db.session import Database
from running import Running, Server
from servers.scripted_server import ScriptedServer, items

CREDENTIAL = "canary-credential-9f3a7c51"
CHANGED = "canary-changed-0b77e2d4"
ACCESS_TOKEN = "canary-access-token-51d0aa83"
CANARIES = (CREDENTIAL, CHANGED, ACCESS_TOKEN)
OLD, NEW, WRONG = (base64.b64encode(os.urandom(32)).decode() for _ in range(3))


@pytest.fixture(scope="module")
def source() -> Iterator[ScriptedServer]:
    with ScriptedServer() as started:
        started.token = CREDENTIAL
        started.partitions["a"] = items(5)
        yield started


@pytest.fixture(scope="module")
def server(running: Running) -> Server:
    return running.start(VAULT_KEY=OLD)


@pytest.fixture(scope="module")
def connection(server: Server, source: ScriptedServer) -> str:
    config = {"url": source.url, "attempts": 2, "backoff_s": 0.02}
    made = server.connect(server.collection("vaulted"), "scripted", config, authentication=given(CREDENTIAL))
    assert server.sync(made)["status"] == "completed"
    return made


def given(token: Any) -> dict[str, Any]:
    return {"credentials": {"token": token}}


def forms(canary: str) -> tuple[str, ...]:
    """How it could stand somewhere without being sealed."""
    plain = canary.encode()
    return canary, plain.hex(), base64.b64encode(plain).decode().rstrip("=")[:-2]


def assert_clean(said: str) -> None:
    found = [canary for canary in CANARIES if any(form in said for form in forms(canary))]
    assert not found


def dump(database: Database) -> str:
    """Every row of every table as text."""
    with database.session() as session:
        tables = session.scalars(
            text("select quote_ident(table_name) from information_schema.tables where table_schema = 'public'")
        ).all()
        assert {"source_connection", "sync_job", "api_key", "entity", "chunk"} <= set(tables)
        rows = [row for table in tables for row in session.scalars(text(f"select t::text from {table} t"))]
    assert len(rows) > 10
    return "\n".join(rows)


def sealed(database: Database, connection: str) -> bytes:
    with database.session() as session:
        statement = text("select credentials from source_connection where id = :id")
        return bytes(session.execute(statement, {"id": connection}).scalar_one())


def key_id(key: str) -> bytes:
    return vault.from_setting(key).key_id


def test_credentials_are_in_the_database_as_ciphertext_with_the_id_of_their_key(
    connection: str, fresh_database: Database
) -> None:
    stored = sealed(fresh_database, connection)
    assert vault.Vault.key_id_of(stored) == key_id(OLD)
    assert CREDENTIAL.encode() in vault.from_setting(OLD).open(stored, owner=connection)
    with pytest.raises(vault.VaultError):
        vault.from_setting(OLD).open(stored, owner="another connection")
    with pytest.raises(vault.VaultError):
        vault.from_setting(OLD).open(stored[:-1] + bytes([stored[-1] ^ 1]), owner=connection)
    assert_clean(dump(fresh_database))


def test_the_access_token_of_a_run_is_sealed_while_it_runs_and_forgotten_at_its_end(
    server: Server, source: ScriptedServer, connection: str, fresh_database: Database
) -> None:
    def stored() -> bytes | None:
        with fresh_database.session() as session:
            found = session.execute(text("select access_token from sync_job where id = :id"), {"id": job})
            return found.scalar_one()

    source.latency_s = 2.0
    job = server.run(connection, access_token=ACCESS_TOKEN)
    token = stored()
    assert token is not None
    assert vault.from_setting(OLD).open(token, owner=job).decode() == ACCESS_TOKEN
    assert_clean(dump(fresh_database))
    source.latency_s = 0.0
    assert server.finish(connection, job)["status"] == "completed"
    assert stored() is None
    assert_clean(dump(fresh_database))


def test_no_answer_no_error_and_no_log_line_shows_a_secret(
    server: Server, running: Running, source: ScriptedServer, connection: str, fresh_database: Database
) -> None:
    said = []
    place = f"/source-connections/{connection}"
    for body in (
        given(CHANGED),
        given([CREDENTIAL]),
        {"credentials": [CREDENTIAL]},
        given({"a": CREDENTIAL}),
        CREDENTIAL,
    ):
        said.append(server.http.patch(place, json={"authentication": body}).text)
    unclosed = f'{{"authentication": {{"credentials": {{"token": "{CREDENTIAL}"'
    said.append(server.http.patch(place, content=unclosed, headers={"Content-Type": "application/json"}).text)
    for status in (401, 403, 500):
        source.faults.clear()
        source.fault("status", status=status)  # its body repeats the Authorization header
        job = server.sync(connection)
        assert job["status"] == "failed"
        said.append(str(job))
    source.faults.clear()
    source.fault("raw", body=f"no JSON, but {CHANGED}")
    said.append(str(server.sync(connection)))
    source.faults.clear()
    assert server.http.patch(place, json={"authentication": given(CREDENTIAL)}).status_code == 200
    assert server.sync(connection)["status"] == "completed"
    for path in (place, f"{place}/jobs", f"{place}/entities", "/source-connections", "/collections", "/health"):
        said.append(server.http.get(path).text)
    for arguments in (("status",), ("search", "item", "-c", "vaulted"), ("sync", connection)):
        shown = running.command(*arguments, API_URL=server.url)
        said.append(shown.stdout + shown.stderr)
    assert_clean("\n".join(said))
    assert_clean(server.log.read_text(errors="replace"))
    assert_clean(dump(fresh_database))


def test_with_another_key_a_job_fails_clearly_and_new_credentials_mend_it(
    server: Server, running: Running, source: ScriptedServer, connection: str, fresh_database: Database
) -> None:
    hook = {"url": f"{source.url}/hook", "event_types": ["collection.created"]}
    closed = server.post("/webhooks/subscriptions", hook)["id"]
    assert server.terminate() == 0
    stranger = running.start(VAULT_KEY=WRONG)
    unshown = stranger.http.get(f"/webhooks/subscriptions/{closed}", params={"include_secret": True})
    assert (unshown.status_code, key_id(OLD).hex() in unshown.text) == (400, True)
    stranger.collection()  # an event that cannot be signed
    tried = stranger.wait_for(lambda: stranger.get(f"/webhooks/subscriptions/{closed}")["delivery_attempts"], bool)
    assert (tried[0]["status"], tried[0]["response"]) == ("failed", "the stored secret cannot be opened")
    assert stranger.http.delete(f"/webhooks/subscriptions/{closed}").status_code == 200
    job = stranger.sync(connection)
    assert job["status"] == "failed"
    for words in ("credentials", key_id(OLD).hex(), "VAULT_KEY"):
        assert words in job["error"]
    assert stranger.get(f"/source-connections/{connection}")["status"] == "needs_reauth"
    assert len(stranger.ledger(connection)) == 5  # nothing is lost by it

    place = f"/source-connections/{connection}"
    config = {"url": source.url, "attempts": 3}
    refused = stranger.http.patch(place, json={"config": config})
    assert refused.status_code == 400
    assert key_id(OLD).hex() in refused.json()["detail"]
    assert stranger.http.patch(place, json={"name": "Still renamed"}).status_code == 200
    assert vault.Vault.key_id_of(sealed(fresh_database, connection)) == key_id(OLD)

    mended = stranger.http.patch(place, json={"authentication": given(CREDENTIAL)})
    assert mended.status_code == 200, mended.text
    assert stranger.sync(connection)["status"] == "completed"
    said = stranger.log.read_text(errors="replace")
    assert "unexpected_error" not in said
    assert "request_failed" not in said
    assert "keeper_failed" not in said
    assert_clean(said)
    assert stranger.terminate() == 0


def test_a_new_key_takes_over_while_the_server_runs_and_the_old_one_can_be_dropped(
    running: Running, connection: str, fresh_database: Database
) -> None:
    before = running.start(VAULT_KEY=WRONG)
    hook = {"url": "http://127.0.0.1:9/hook", "event_types": ["sync.failed"], "secret": CREDENTIAL * 2}
    subscription = before.post("/webhooks/subscriptions", hook)["id"]
    secret = before.get(f"/webhooks/subscriptions/{subscription}", include_secret=True)["secret"]
    assert before.terminate() == 0
    with_both = running.start(VAULT_KEY=f"{NEW},{WRONG}")
    stored = with_both.wait_for(
        lambda: sealed(fresh_database, connection), lambda seen: vault.Vault.key_id_of(seen) == key_id(NEW), 10
    )
    assert CREDENTIAL.encode() in vault.from_setting(NEW).open(stored, owner=connection)
    assert with_both.sync(connection)["status"] == "completed"
    with fresh_database.session() as session:
        of_hook = text("select secret from webhook_subscription where id = :id")
        assert vault.Vault.key_id_of(bytes(session.execute(of_hook, {"id": subscription}).scalar_one())) == key_id(NEW)
    assert with_both.terminate() == 0
    with_new = running.start(VAULT_KEY=NEW)
    assert with_new.get(f"/webhooks/subscriptions/{subscription}", include_secret=True)["secret"] == secret
    assert with_new.sync(connection)["status"] == "completed"
    assert_clean(dump(fresh_database))
    assert_clean(with_both.log.read_text() + with_new.log.read_text())
    assert with_new.terminate() == 0


def test_without_the_setting_a_key_is_made_once_for_its_owner_only(running: Running) -> None:
    place = running.place / "own-key"
    first = running.start(AIRWEAVE_DATA_DIR=str(place))
    file = place / "vault.key"
    assert file.stat().st_mode & 0o777 == 0o600
    made = file.read_text()
    assert len(base64.b64decode(made)) == 32
    assert first.terminate() == 0
    again = running.start(AIRWEAVE_DATA_DIR=str(place))
    assert file.read_text() == made
    assert again.terminate() == 0
    file.write_text("no key\n")
    refused = running.command("api", "--port", "0", AIRWEAVE_DATA_DIR=str(place))
    assert refused.returncode == 1
    assert str(file) in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
