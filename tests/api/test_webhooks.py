"""Webhooks by the public client and over HTTP: subscriptions, messages, deliveries, recovery, bad endpoints."""

import base64
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from airweave import AirweaveSDK
from airweave.core.api_error import ApiError

from airweave_server.db import collections, keys
from airweave_server.db.models import Organization
from airweave_server.db.session import Database
from invariants import hold
from running import Running, Server, plain
from servers.webhook_receiver import Received, WebhookReceiver

SECRET = "a-secret-of-my-own-that-nobody-guesses"
COLLECTION = ["collection.created", "collection.updated", "collection.deleted"]
SYNC = ["sync.pending", "sync.running", "sync.cancelling", "sync.completed", "sync.failed", "sync.cancelled"]
STUB = {"authentication": {"credentials": {"stub_key": "k"}}}
MANY = 1_000


@pytest.fixture(scope="module")
def sdk(server: Server) -> Iterator[AirweaveSDK]:
    with httpx.Client(timeout=60) as client:
        yield AirweaveSDK(base_url=server.url, api_key="any", httpx_client=client)


@pytest.fixture(scope="module")
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as started:
        yield started


def subscribe(server: Server, url: str, types: list[str], **more: Any) -> str:
    return str(server.post("/webhooks/subscriptions", {"url": url, "event_types": types, **more})["id"])


def detail(server: Server, subscription: str) -> dict[str, Any]:
    return dict(server.get(f"/webhooks/subscriptions/{subscription}", include_secret=True))


def patch(server: Server, subscription: str, **body: Any) -> httpx.Response:
    return server.http.patch(f"/webhooks/subscriptions/{subscription}", json=body)


def rename(server: Server, collection: str, times: int = 1) -> None:
    """Cause so many events collection.updated."""
    for number in range(times):
        changed = server.http.patch(f"/collections/{collection}", json={"name": f"Renamed {number}"})
        assert changed.status_code == 200, changed.text


def arrived(server: Server, receiver: WebhookReceiver, path: str, count: int, timeout_s: float = 30) -> list[Received]:
    """Wait until so many different messages were accepted at this path; return the first of each."""

    def look() -> list[Received]:
        return list({one.id: one for one in reversed(receiver.got(path, ok=True))}.values())[::-1]

    return list(server.wait_for(look, lambda found: len(found) >= count, timeout_s))


def errors(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {place: text for part in answer.json()["errors"] for place, text in part.items()}


def test_the_client_manages_subscriptions(sdk: AirweaveSDK, receiver: WebhookReceiver) -> None:
    made = sdk.webhooks.create_subscription(
        url=receiver.url("/sdk?key=1"), event_types=["sync.completed", "sync.failed", "sync.failed"], secret=SECRET
    )
    assert made.url == receiver.url("/sdk?key=1")
    assert made.filter_types == ["sync.completed", "sync.failed"]
    assert (made.disabled, made.health_status) == (False, "unknown")
    assert made.id in [one.id for one in sdk.webhooks.get_subscriptions()]
    shown = sdk.webhooks.get_subscription(made.id)
    assert (shown.secret, shown.delivery_attempts) == (None, [])
    shown = sdk.webhooks.get_subscription(made.id, include_secret=True)
    assert shown.secret == "whsec_" + base64.b64encode(SECRET.encode()).decode()
    changed = sdk.webhooks.patch_subscription(made.id, event_types=COLLECTION, disabled=True)
    assert (changed.filter_types, changed.disabled) == (COLLECTION, True)
    assert sdk.webhooks.patch_subscription(made.id).url == made.url
    task = sdk.webhooks.recover_failed_messages(made.id, since=datetime.now(UTC) - timedelta(days=13))
    assert (len(task.id), task.status) == (36, "completed")
    assert sdk.webhooks.delete_subscription(made.id).id == made.id
    for call in (sdk.webhooks.get_subscription, sdk.webhooks.delete_subscription, sdk.webhooks.patch_subscription):
        with pytest.raises(ApiError) as gone:
            call(made.id)
        assert gone.value.status_code == 404
    own = sdk.webhooks.create_subscription(url=receiver.url("/sdk"), event_types=["sync.failed"])
    random = sdk.webhooks.get_subscription(own.id, include_secret=True).secret
    assert random is not None
    assert len(base64.b64decode(random.removeprefix("whsec_"))) == 24
    sdk.webhooks.delete_subscription(own.id)


def test_every_event_is_a_message_with_its_facts_and_is_delivered_signed(
    server: Server, sdk: AirweaveSDK, running: Running, receiver: WebhookReceiver
) -> None:
    types = ["source_connection.created", "source_connection.auth_completed", "source_connection.deleted"]
    one = subscribe(server, receiver.url("/facts"), [*COLLECTION, *types], secret=SECRET)
    other = subscribe(server, receiver.url("/facts"), SYNC, secret=detail(server, one)["secret"])
    collection = server.collection()
    folder = server.folder()
    for name in ("one", "two", "three"):
        (folder / f"{name}.txt").write_text(f"text of {name}")
    (folder / "empty.txt").write_text("")
    connection = server.connect(collection, "folder", {"path": str(folder)})
    done = server.sync(connection)
    (folder / "two.txt").write_text("another text")
    (folder / "one.txt").unlink()
    again = server.sync(connection, force_full_sync=True)
    rename(server, collection)
    keyed = server.connect(collection, "stub", {"entity_count": 1}, **STUB)
    assert server.http.patch(f"/source-connections/{keyed}", json=STUB).status_code == 200
    long = server.connect(collection, "stub", {"entity_count": 900, "generation_delay_ms": 100}, **STUB)
    running_job = server.run(long)
    server.wait_for(lambda: server.job(long, running_job)["status"], lambda status: status == "running")
    server.post(f"/source-connections/{long}/jobs/{running_job}/cancel")
    cancelled = server.finish(long, running_job)
    hold(running, done, again, cancelled)
    assert server.http.delete(f"/source-connections/{keyed}").status_code == 200
    assert server.http.delete(f"/collections/{collection}").status_code == 200
    got = arrived(server, receiver, "/facts", 2 + 1 + 3 + 1 + 1 + 3 + 3 + 4)
    assert all(each.is_signed_with(detail(server, one)["secret"]) for each in got)
    jobs = [each.payload for each in got if each.payload["event_type"].startswith("sync.")]
    others = [each.payload for each in got if each.payload not in jobs]
    assert [each["event_type"] for each in others] == [
        "collection.created",
        "source_connection.created",
        "collection.updated",
        "source_connection.created",
        "source_connection.auth_completed",
        "source_connection.created",
        "source_connection.deleted",
        "collection.deleted",
    ]
    assert [(each["sync_job_id"], each["event_type"]) for each in jobs] == [
        *((done["id"], f"sync.{status}") for status in ("pending", "running", "completed")),
        *((again["id"], f"sync.{status}") for status in ("pending", "running", "completed")),
        *((cancelled["id"], f"sync.{status}") for status in ("pending", "running", "cancelling", "cancelled")),
    ]
    created = server.get("/collections", search="")[0]["organization_id"] if server.get("/collections") else None
    common = {"organization_id", "event_type", "timestamp"}
    assert others[0].keys() - common == {"collection_id", "collection_name", "collection_readable_id"}
    assert others[1].keys() - common == {
        "source_connection_id",
        "collection_readable_id",
        "source_type",
        "is_authenticated",
    }
    assert (others[1]["source_connection_id"], others[1]["source_type"]) == (connection, "folder")
    first, second = jobs[2], jobs[5]
    assert first.keys() - common == {
        *("sync_id", "sync_job_id", "collection_id", "source_connection_id", "source_type", "collection_name"),
        *("collection_readable_id", "entities_inserted", "entities_updated", "entities_deleted", "entities_skipped"),
        "chunks_written",
    }
    assert created in (None, first["organization_id"])
    counts = ("entities_inserted", "entities_updated", "entities_deleted", "entities_skipped", "chunks_written")
    assert [first[name] for name in counts] == [3, 0, 0, 1, 3]
    assert [second[name] for name in counts] == [0, 1, 1, 1, 1]
    assert all(done[name] == first[name] for name in counts[:4])

    listed = sdk.webhooks.get_messages(event_types=["sync.completed", "sync.failed"])
    assert [message.payload["sync_job_id"] for message in listed[:2]] == [again["id"], done["id"]]
    message = sdk.webhooks.get_message(listed[0].id, include_attempts=True)
    assert (message.payload, message.event_type) == (second, "sync.completed")
    assert message.delivery_attempts is not None
    (attempt,) = message.delivery_attempts
    assert (attempt.endpoint_id, attempt.response_status_code, attempt.status) == (other, 200, "success")
    assert (attempt.response, attempt.url) == ("answered 200", receiver.url("/facts"))
    assert sdk.webhooks.get_message(listed[0].id).delivery_attempts is None
    assert detail(server, one)["health_status"] == "healthy"
    for each in (one, other):
        server.http.delete(f"/webhooks/subscriptions/{each}")


def test_a_receiver_that_fails_for_a_while_gets_everything_in_order(
    server: Server, receiver: WebhookReceiver, sdk: AirweaveSDK
) -> None:
    collection = server.collection()
    receiver.answers["/ill"] = [500, 503, 404]
    subscription = subscribe(server, receiver.url("/ill"), COLLECTION)
    rename(server, collection, 5)
    server.wait_for(lambda: len(receiver.got("/ill")), lambda count: count >= 3)
    got = arrived(server, receiver, "/ill", 5)
    assert [one.number for one in receiver.got("/ill")] == [1, 1, 1, 1, 2, 3, 4, 5]
    assert [one.payload["collection_name"] for one in got] == [f"Renamed {number}" for number in range(5)]
    assert len({one.id for one in receiver.got("/ill")}) == 5
    secret = detail(server, subscription)["secret"]
    assert all(one.is_signed_with(secret) for one in receiver.got("/ill"))
    shown = server.wait_for(lambda: detail(server, subscription), lambda seen: seen["pending_messages"] == 0)
    assert shown["health_status"] == "degraded"
    statuses = [each["response_status_code"] for each in shown["delivery_attempts"]]
    assert statuses == [200, 200, 200, 200, 200, 404, 503, 500]
    assert [each["status"] for each in shown["delivery_attempts"]] == ["success"] * 5 + ["failed"] * 3
    server.http.delete(f"/webhooks/subscriptions/{subscription}")


def test_what_was_missed_or_given_up_is_recovered(apart: Running, receiver: WebhookReceiver) -> None:
    server = apart.start(WEBHOOK_RETRY_DAYS="0.00001", WEBHOOK_TIMEOUT_S="60")  # three attempts
    collection = server.collection()
    receiver.always["/lost"] = 500
    subscription = subscribe(server, receiver.url("/lost"), COLLECTION)
    since = datetime.now(UTC)
    rename(server, collection, 2)
    # the head blocks the next one, and only until it is given up
    server.wait_for(lambda: [one.number for one in receiver.got("/lost")], lambda seen: seen == [1, 1, 1, 2, 2, 2])
    shown = server.wait_for(lambda: detail(server, subscription), lambda seen: seen["pending_messages"] == 0)
    assert shown["health_status"] == "failing"
    receiver.always["/lost"] = 200
    rename(server, collection)
    arrived(server, receiver, "/lost", 1)
    assert patch(server, subscription, disabled=True).json()["disabled"] is True
    rename(server, collection, 2)
    server.wait_for(lambda: numbered(apart, subscription), lambda number: number == 5)
    assert patch(server, subscription, disabled=False, recover_since=since.isoformat()).status_code == 200
    got = arrived(server, receiver, "/lost", 5)
    assert [one.number for one in got] == [3, 1, 2, 4, 5]
    window = {"since": since.replace(tzinfo=None).isoformat()}  # in UTC, too
    task = server.post(f"/webhooks/subscriptions/{subscription}/recover", window)
    assert task["status"] == "completed"
    old = (datetime.now(UTC) - timedelta(days=14, minutes=1)).isoformat()
    refused = server.http.post(f"/webhooks/subscriptions/{subscription}/recover", json={"since": old})
    assert refused.status_code == 422
    assert "14 days" in refused.json()["detail"]
    assert "14 days" in errors(patch(server, subscription, disabled=False, recover_since=old))["body.recover_since"]
    until = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    task = server.post(f"/webhooks/subscriptions/{subscription}/recover", {**window, "until": until})
    assert task["messages"] == 0

    with psycopg.connect(plain(apart.database_url)) as database:  # what is old is forgotten
        database.execute("update webhook_message set created_at = created_at - interval '15 days' where position < 3")
        before = database.execute("select count(*) from webhook_message").fetchone()
    assert before is not None
    receiver.hanging.add("/slow")  # a request under way holds no stop up, and is made again
    slow = subscribe(server, receiver.url("/slow"), COLLECTION)
    rename(server, collection)
    server.wait_for(lambda: receiver.got("/slow"), bool)
    began_at = time.monotonic()
    server.terminate()
    assert time.monotonic() - began_at < 20
    receiver.hanging.discard("/slow")
    server = apart.start()
    (got_again,) = arrived(server, receiver, "/slow", 1)
    assert got_again.number == 1
    attempts = server.wait_for(lambda: detail(server, slow)["delivery_attempts"], bool)
    assert [each["status"] for each in attempts] == ["success"]  # what was broken off is no attempt
    server.wait_for(lambda: len(server.get("/webhooks/messages")), lambda count: count == before[0] - 1)
    assert len(server.get("/webhooks/messages", limit=2, skip=1)) == 2


def numbered(running: Running, subscription: str) -> int:
    with psycopg.connect(plain(running.database_url)) as database:
        row = database.execute("select last_number from webhook_subscription where id = %s", (subscription,)).fetchone()
    assert row is not None
    return int(row[0])


def test_a_receiver_that_is_gone_is_disabled_and_its_messages_wait(server: Server, receiver: WebhookReceiver) -> None:
    receiver.answers["/gone"] = [410]
    subscription = subscribe(server, receiver.url("/gone"), COLLECTION)
    assert detail(server, subscription)["disabled_reason"] is None
    collection = server.collection()
    rename(server, collection)
    shown = server.wait_for(lambda: detail(server, subscription), lambda seen: seen["disabled"])
    assert shown["disabled_reason"] == "the endpoint answered 410: it wants no more messages"
    assert [one["response_status_code"] for one in shown["delivery_attempts"]] == [410]
    assert len(receiver.got("/gone")) == 1
    enabled = patch(server, subscription, disabled=False).json()
    assert (enabled["disabled"], enabled["disabled_reason"]) == (False, None)
    first = arrived(server, receiver, "/gone", 1)[0]
    assert (first.number, first.payload["event_type"]) == (1, "collection.created")


def test_a_receiver_is_left_alone_for_as_long_as_it_asks_up_to_a_bound(
    server: Server, running: Running, receiver: WebhookReceiver
) -> None:
    receiver.answers["/busy"], receiver.retry_after["/busy"] = [429, 503], "2"
    subscribe(server, receiver.url("/busy"), ["collection.created"])
    receiver.always["/never"], receiver.retry_after["/never"] = 503, "999999999"
    never = subscribe(server, receiver.url("/never"), ["collection.created"])
    server.collection()
    arrived(server, receiver, "/busy", 1)
    times = [one.at for one in receiver.got("/busy")]
    assert [later - earlier >= 1.9 for earlier, later in pairwise(times)] == [True, True]
    server.wait_for(lambda: detail(server, never)["delivery_attempts"], bool)
    with psycopg.connect(plain(running.database_url), autocommit=True) as connection:
        query = "select extract(epoch from not_before - now()) from webhook_subscription where id = %s"
        row = connection.execute(query, (never,)).fetchone()
    assert row is not None
    assert 7_000 < row[0] <= 7_200
    assert len(receiver.got("/never")) == 1
    server.http.delete(f"/webhooks/subscriptions/{never}")


def test_dead_receivers_cost_the_others_nothing(server: Server, running: Running, receiver: WebhookReceiver) -> None:
    dead = [subscribe(server, receiver.url(f"/dead{number}"), ["search.failed"]) for number in range(8)]
    receiver.hanging |= {f"/dead{number}" for number in range(8)}
    with psycopg.connect(plain(running.database_url)) as database:
        database.execute(
            """
            insert into webhook_message (organization_id, event_type, payload)
            select organization_id, 'search.failed', jsonb_build_object('n', n)
            from webhook_subscription, generate_series(1, %s) as n where id = %s
            """,
            (MANY, dead[0]),
        )
    server.wait_for(lambda: detail(server, dead[7])["delivery_attempts"], bool)
    good = subscribe(server, receiver.url("/good"), COLLECTION)
    collection = server.collection()
    began_at = time.monotonic()
    rename(server, collection, 50)
    got = arrived(server, receiver, "/good", 51, 15)
    took_s = time.monotonic() - began_at
    assert [one.number for one in got] == list(range(1, 52))
    assert len(receiver.got("/good")) == 51
    assert took_s < 15
    for subscription in dead:
        assert detail(server, subscription)["pending_messages"] == MANY
        server.http.delete(f"/webhooks/subscriptions/{subscription}")
    server.http.delete(f"/webhooks/subscriptions/{good}")


def test_a_bad_endpoint_is_refused_or_fails_with_one_clear_error(
    server: Server, running: Running, receiver: WebhookReceiver
) -> None:
    def refused(url: str) -> str:
        answer = server.http.post("/webhooks/subscriptions", json={"url": url, "event_types": COLLECTION})
        return errors(answer)["body.url"]

    assert "not a public address" in refused("http://10.0.0.1/hook")
    assert "not a public address" in refused("http://[::1]:9/hook")
    assert "not a public address" in refused("https://169.254.169.254/latest")
    assert "this server itself" in refused(f"{server.url}/webhooks/messages")
    assert "user name" in refused("https://user:hush-hush@example.com/")
    assert "http://" in refused("ftp://example.com/")
    assert "web address" in refused("http://[::1")
    port = server.url.rpartition(":")[2]
    itself = subscribe(server, f"http://127.1:{port}/collections", COLLECTION)  # by another name
    receiver.always["/moved"] = 302
    moved = subscribe(server, receiver.url("/moved"), COLLECTION)
    receiver.hanging.add("/mute")
    mute = subscribe(server, receiver.url("/mute?token=hush-hush"), COLLECTION)
    receiver.hanging.add("/mute?token=hush-hush")
    closed = subscribe(server, "http://127.0.0.1:9/hook", COLLECTION)
    server.collection()

    def attempt(subscription: str) -> dict[str, Any]:
        found = server.wait_for(lambda: detail(server, subscription)["delivery_attempts"], bool)
        return dict(found[-1])

    assert (attempt(itself)["response_status_code"], "sent the webhook" in attempt(itself)["response"]) == (508, True)
    assert attempt(moved)["response_status_code"] == 302
    assert "do not follow redirects" in attempt(moved)["response"]
    assert (attempt(mute)["response_status_code"], attempt(mute)["response"]) == (
        0,
        "127.0.0.1 does not answer in time",
    )
    assert attempt(closed)["response"] == "127.0.0.1 cannot be reached"
    assert not receiver.got("/elsewhere")
    for each in (itself, moved, mute, closed):
        server.http.delete(f"/webhooks/subscriptions/{each}")
    log = server.log.read_text(errors="replace")
    assert "webhook_failed" in log
    assert "hush-hush" not in log


def test_endpoints_are_verified_where_that_is_set(apart: Running, receiver: WebhookReceiver) -> None:
    server = apart.start(WEBHOOK_VERIFY_ENDPOINTS="true", WEBHOOK_TIMEOUT_S="0.5")
    receiver.always |= {"/there": 405, "/moved-on": 301}
    receiver.hanging.add("/silent")

    def asked(url: str) -> httpx.Response:
        return server.http.post("/webhooks/subscriptions", json={"url": url, "event_types": COLLECTION})

    assert asked(receiver.url("/there")).status_code == 200
    assert [one.method for one in receiver.got("/there", method="HEAD")] == ["HEAD"]
    for url, said in (
        (receiver.url("/silent"), "does not answer in time"),
        (receiver.url("/moved-on"), "redirects (301)"),
        ("http://127.0.0.1:9/", "cannot be reached"),
        (f"http://127.1:{server.url.rpartition(':')[2]}/", "this server itself"),
    ):
        answer = asked(url)
        assert answer.status_code == 400, answer.text
        assert said in answer.json()["detail"]
    (only,) = server.get("/webhooks/subscriptions")
    assert patch(server, only["id"], url=receiver.url("/silent")).status_code == 400
    assert server.get("/webhooks/subscriptions")[0]["url"] == only["url"]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"event_types": []}, "body.event_types"),
        ({"event_types": ["sync.eaten"]}, "body.event_types.0"),
        ({"event_types": [*SYNC, *COLLECTION, "search.failed", "search.started"]}, "body.event_types"),
        ({"secret": "short"}, "body.secret"),
        ({"secret": "whsec_not-base64-at-all-not-at-all"}, "body.secret"),
        ({"url": ""}, "body.url"),
        ({"url": None}, "body.url"),
    ],
)
def test_bad_input_names_its_field(server: Server, body: dict[str, Any], place: str) -> None:
    whole = {"url": "https://example.com/hook", "event_types": ["sync.failed"], **body}
    answer = server.http.post("/webhooks/subscriptions", json=whole)
    assert list(errors(answer)) == [place]
    assert "hook" not in answer.text
    assert "not-base64" not in answer.text


def test_unknown_ids_and_types(server: Server) -> None:
    for id in (str(uuid4()), "msg_2b", "%00"):
        for path in (f"/webhooks/messages/{id}", f"/webhooks/subscriptions/{id}"):
            assert server.http.get(path).status_code in ({404} if id != "%00" else {404, 422})
    assert server.http.get("/webhooks/messages", params={"event_types": "no.such"}).status_code == 422


def test_nothing_of_another_organization_is_seen_or_sent(apart: Running, receiver: WebhookReceiver) -> None:
    server = apart.start(AUTH_ENABLED="true")
    database = Database(apart.database_url)
    with database.session() as session:
        first = collections.organization(session)
        second = Organization(name="second")
        session.add(second)
        session.flush()
        texts = [keys.create(session, each.id, name="", days=1)[1] for each in (first, second)]
    database.close()
    ours, theirs = (httpx.Client(base_url=server.url, headers={"X-API-Key": text}) for text in texts)
    with ours, theirs:
        body = {"url": receiver.url("/theirs"), "event_types": COLLECTION}
        subscription = theirs.post("/webhooks/subscriptions", json=body).json()["id"]
        assert ours.post("/collections", json={"name": "Ours alone"}).status_code == 200
        (message,) = ours.get("/webhooks/messages").json()
        assert theirs.get("/webhooks/messages").json() == []
        assert theirs.get(f"/webhooks/messages/{message['id']}").status_code == 404
        assert ours.get("/webhooks/subscriptions").json() == []
        path = f"/webhooks/subscriptions/{subscription}"
        assert ours.get(path, params={"include_secret": True}).status_code == 404
        assert ours.patch(path, json={"disabled": True}).status_code == 404
        assert ours.post(f"{path}/recover", json={"since": message["timestamp"]}).status_code == 404
        assert ours.delete(path).status_code == 404
        assert theirs.post("/collections", json={"name": "Theirs alone"}).status_code == 200
        (got,) = arrived(server, receiver, "/theirs", 1)
        assert got.payload["collection_name"] == "Theirs alone"
        assert httpx.get(f"{server.url}/webhooks/messages").status_code == 401
