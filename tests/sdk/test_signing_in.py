"""Signing in: which credentials each kind takes, how it signs, and tokens that are replaced once, not twice."""

import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from oauth_server import CLIENT_SECRET, OAuthServer
from pydantic import BaseModel, SecretStr, ValidationError
from scripted_server import ScriptedServer

from airweave_server.sdk import (
    ApiKey,
    Auth,
    AuthError,
    Basic,
    Bearer,
    ConfigError,
    Context,
    Direct,
    NoAuth,
    OAuth2,
    OAuth2Credentials,
    RateLimited,
    Unavailable,
)
from airweave_server.sdk.http import Http

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Login(BaseModel):
    token: SecretStr
    region: str = "eu"


KINDS: dict[str, Auth] = {
    "direct": Direct(Login),
    "key": ApiKey(header="X-Api-Key"),
    "query key": ApiKey(query="api_key"),
    "basic": Basic(),
    "bearer": Bearer(),
    "oauth": OAuth2("https://provider.example/token"),
}
GIVEN: dict[str, dict[str, Any]] = {
    "direct": {"token": "canary-1"},
    "key": {"api_key": "canary-1"},
    "query key": {"api_key": "canary-1"},
    "basic": {"username": "ada", "password": "canary-1"},
    "bearer": {"access_token": "canary-1"},
    "oauth": {"access_token": "canary-1", "refresh_token": "canary-2", "expires_at": NOW.isoformat()},
}


@pytest.fixture
def provider() -> Iterator[OAuthServer]:
    with OAuthServer() as provider:
        yield provider


class Store:
    """Where an engine keeps the credentials of one connection: locked, read again, stored before they are used."""

    def __init__(self, credentials: BaseModel) -> None:
        self.stored = credentials
        self.lock = threading.Lock()

    def renew(self, used: BaseModel, refresh: Callable[[BaseModel], BaseModel]) -> BaseModel:
        with self.lock:
            if self.stored == used:
                self.stored = refresh(self.stored)
            return self.stored


def credentials_of(provider: OAuthServer, **changes: Any) -> OAuth2Credentials:
    return OAuth2Credentials.model_validate(provider.sign_in() | changes)


def http_of(provider: OAuthServer, credentials: BaseModel, *, store: Store | None = None, **options: Any) -> Http:
    context = Context(allowed_hosts=("127.0.0.1",), renew=store.renew if store else None)
    auth = OAuth2(provider.token_url, rotates=provider.rotates, **options)
    return Http(provider.url, context=context, auth=auth, credentials=credentials, backoff_s=0.01)


def read(http: Http) -> list[str]:
    found, page = [], 0
    while page is not None:
        answer = http.json("/items", params={"page": page})
        found += [item["id"] for item in answer["items"]]
        page = answer["next"]
    return found


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_takes_its_form_and_gives_it_back_from_the_vault(name: str) -> None:
    kind = KINDS[name]
    credentials = kind.accept({"credentials": GIVEN[name]})
    assert credentials is not None
    assert "canary" not in repr(credentials)
    stored = json.loads(json.dumps(kind.to_stored(credentials)))
    assert stored | GIVEN[name] == stored, "the secrets are in the vault in the clear"
    assert kind.from_stored(stored) == credentials


@pytest.mark.parametrize("name", KINDS)
def test_missing_credentials_are_named_and_malformed_ones_refused(name: str) -> None:
    kind = KINDS[name]
    with pytest.raises(ConfigError, match=f"credentials are needed: {next(iter(GIVEN[name]))}"):
        kind.accept({})
    for malformed in ({"other": "canary-1"}, ["canary-1"], {next(iter(GIVEN[name])): ["canary-1"]}):
        with pytest.raises(ValidationError) as caught:
            kind.accept({"credentials": malformed})
        if name != "direct":  # the model is the author's
            assert "canary" not in str(caught.value)


def test_no_auth_takes_nothing_and_ignores_what_is_sent() -> None:
    kind = NoAuth()
    assert kind.accept({"credentials": {"token": "x"}, "access_token": "y"}) is None
    assert (kind.form, kind.wire_method, kind.oauth_type) == (None, "direct", None)
    assert kind.takes_token("x") is None


@pytest.mark.parametrize(
    ("kind", "wire_method", "oauth_type"),
    [
        (KINDS["direct"], "direct", None),
        (KINDS["key"], "direct", None),
        (KINDS["basic"], "direct", None),
        (KINDS["bearer"], "oauth_token", "access_only"),
        (OAuth2("https://p.example"), "oauth_token", "with_rotating_refresh"),
        (OAuth2("https://p.example", rotates=False), "oauth_token", "with_refresh"),
    ],
)
def test_a_kind_says_what_the_api_calls_it(kind: Auth, wire_method: str, oauth_type: str | None) -> None:
    assert (kind.wire_method, kind.oauth_type) == (wire_method, oauth_type)


def test_a_token_alone_is_taken_by_kinds_of_tokens_only() -> None:
    taken = {name: kind.takes_token("canary-1") for name, kind in KINDS.items()}
    assert {name for name, credentials in taken.items() if credentials is not None} == {"bearer", "oauth"}
    assert not KINDS["oauth"].can_refresh(taken["oauth"])  # type: ignore[arg-type]
    for name in ("bearer", "oauth"):
        assert KINDS[name].accept({"access_token": "canary-1"}) == taken[name]


def test_an_oauth_sign_in_may_come_in_the_fields_of_the_api() -> None:
    credentials = KINDS["oauth"].accept(
        {"access_token": "a", "refresh_token": "r", "expires_at": "2026-01-02T00:00:00", "client_id": "c"}
    )
    assert isinstance(credentials, OAuth2Credentials)
    assert (credentials.expires_at, credentials.client_id) == (NOW, "c")
    assert KINDS["oauth"].can_refresh(credentials)


@pytest.mark.parametrize(
    ("name", "header", "param"),
    [
        ("key", ("X-Api-Key", "canary-1"), None),
        ("query key", None, ("api_key", "canary-1")),
        ("basic", ("Authorization", "Basic YWRhOmNhbmFyeS0x"), None),
        ("bearer", ("Authorization", "Bearer canary-1"), None),
        ("oauth", ("Authorization", "Bearer canary-1"), None),
    ],
)
def test_a_request_carries_the_signature(name: str, header: Any, param: Any, caplog: pytest.LogCaptureFixture) -> None:
    kind = KINDS[name]
    credentials = kind.accept({"credentials": {k: v for k, v in GIVEN[name].items() if k != "expires_at"}})
    assert credentials is not None
    signature = kind.sign(credentials)
    assert {k: v.get_secret_value() for k, v in signature.headers.items()} == (dict([header]) if header else {})
    assert {k: v.get_secret_value() for k, v in signature.params.items()} == (dict([param]) if param else {})
    with ScriptedServer() as server, ScriptedServer() as other, caplog.at_level("DEBUG"):
        server.fault("redirect", to=f"{other.url}/partitions", path="/away")
        context = Context(allowed_hosts=("127.0.0.1",))
        with Http(server.url, context=context, auth=kind, credentials=credentials, attempts=1) as http:
            http.json("/partitions", params={"q": "1"})
            http.json("/away")
            http.json(f"{other.url}/partitions")
            server.fault("status", status=500)
            with pytest.raises(Unavailable) as caught:
                http.json("/partitions")
        if header:
            assert server.log[0]["headers"][header[0].lower()] == header[1]
        else:
            assert server.log[0]["query"] == {"q": "1", "api_key": "canary-1"}
        assert len(other.log) == 2
        told = json.dumps(other.log)
        assert "canary" not in told, "credentials go to the origin of the base URL only"
        assert "authorization" not in told
    assert "canary" not in "".join(traceback.format_exception(caught.value)) + repr(http) + caplog.text


def test_an_api_key_goes_to_one_place() -> None:
    for options in ({}, {"header": "a", "query": "b"}):
        with pytest.raises(TypeError):
            ApiKey(**options)


def test_a_token_is_expired_a_moment_before_its_time() -> None:
    kind = KINDS["oauth"]
    credentials = OAuth2Credentials(access_token=SecretStr("a"), expires_at=NOW)
    assert not kind.is_expired(credentials, NOW - timedelta(seconds=5))
    assert kind.is_expired(credentials, NOW - timedelta(seconds=0.5))
    assert not kind.is_expired(OAuth2Credentials(access_token=SecretStr("a")), NOW)


def test_a_token_that_dies_in_the_middle_is_replaced_once_and_stored_before_it_is_used(provider: OAuthServer) -> None:
    store = Store(credentials_of(provider))
    first = store.stored
    with http_of(provider, store.stored, store=store) as http:
        assert http.json("/items", params={"page": 0})["next"] == 1
        provider.expire()
        assert len(read(http)) == 25
        assert len(read(http)) == 25
    assert (provider.refreshes, provider.reused, provider.refused) == (1, 0, 1)
    assert store.stored != first
    assert provider.knows(store.stored.access_token.get_secret_value())  # type: ignore[attr-defined]


def test_a_token_that_is_known_to_be_expired_is_not_sent(provider: OAuthServer) -> None:
    store = Store(credentials_of(provider, expires_at=datetime.now(UTC).isoformat()))
    with http_of(provider, store.stored, store=store) as http:
        assert len(read(http)) == 25
    assert (provider.refreshes, provider.refused) == (1, 0)


def test_a_read_outlives_its_tokens() -> None:
    with OAuthServer(lifetime_s=1.4, items=100, latency_s=0.3) as provider:
        store = Store(credentials_of(provider))
        with http_of(provider, store.stored, store=store) as http:
            assert len(read(http)) == 100
        assert provider.refreshes >= 2
        assert provider.reused == 0


def test_threads_of_one_client_share_one_refresh(provider: OAuthServer) -> None:
    store = Store(credentials_of(provider))
    provider.expire()
    with http_of(provider, store.stored, store=store) as http, ThreadPoolExecutor(8) as threads:
        assert all(len(found) == 25 for found in threads.map(lambda _: read(http), range(8)))
    assert (provider.refreshes, provider.reused) == (1, 0)


def test_clients_of_one_store_share_one_refresh(provider: OAuthServer) -> None:
    store = Store(credentials_of(provider))
    provider.expire()
    clients = [http_of(provider, store.stored, store=store) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        assert all(len(found) == 25 for found in threads.map(read, clients))
    for client in clients:
        client.close()
    assert (provider.refreshes, provider.reused) == (1, 0)


def test_a_stored_token_that_has_expired_too_is_replaced(provider: OAuthServer) -> None:
    store = Store(credentials_of(provider, expires_at=None))
    early, late = (http_of(provider, store.stored, store=store) for _ in range(2))
    provider.expire()
    assert len(read(early)) == 25
    store.stored = store.stored.model_copy(update={"expires_at": None})  # of a provider that tells no lifetime
    provider.expire()
    assert len(read(late)) == 25
    assert (provider.refreshes, provider.reused) == (2, 0)
    early.close()
    late.close()


def test_without_a_store_a_rotating_token_is_left_alone(provider: OAuthServer) -> None:
    credentials = credentials_of(provider)
    provider.expire()
    with (
        http_of(provider, credentials) as http,
        pytest.raises(AuthError, match=r"sync its connection, .* or sign in again"),
    ):
        read(http)
    assert provider.asked == 0, "the stored refresh token is used up"


def test_without_a_store_a_token_that_does_not_rotate_is_replaced_in_memory(provider: OAuthServer) -> None:
    provider.rotates = False
    with http_of(provider, credentials_of(provider)) as http:
        for _ in range(2):
            provider.expire()
            assert len(read(http)) == 25
    assert (provider.refreshes, provider.reused) == (2, 0)


def test_threads_without_a_store_share_one_refresh_too(provider: OAuthServer) -> None:
    provider.rotates = False
    credentials = credentials_of(provider)
    provider.expire()
    with http_of(provider, credentials) as http, ThreadPoolExecutor(8) as threads:
        assert all(len(found) == 25 for found in threads.map(lambda _: read(http), range(8)))
    assert provider.refreshes == 1


def test_a_token_without_a_refresh_token_is_not_renewed(provider: OAuthServer) -> None:
    token = provider.sign_in()["access_token"]
    store = Store(OAuth2Credentials(access_token=token))
    provider.expire()
    with http_of(provider, store.stored, store=store) as http, pytest.raises(AuthError, match=r"\(401\)"):
        read(http)
    assert provider.asked == 0


def test_a_stream_begins_with_a_new_token(provider: OAuthServer) -> None:
    store = Store(credentials_of(provider))
    provider.expire()
    with http_of(provider, store.stored, store=store) as http, http.stream("/large") as pieces:
        assert sum(map(len, pieces)) == 1_000_000
    assert provider.refreshes == 1


def test_a_new_token_that_is_refused_too_ends_it(provider: OAuthServer) -> None:
    store = Store(credentials_of(provider))
    provider.lifetime_s = -1
    with http_of(provider, store.stored, store=store) as http:
        provider.expire()
        with pytest.raises(AuthError, match="nor a new token"):
            http.json("/items")
    assert provider.refreshes == 1


def test_a_token_that_somebody_else_renewed_may_have_expired_as_well(provider: OAuthServer) -> None:
    former = credentials_of(provider)
    store = Store(former)
    for refreshes in (1, 2):
        provider.expire()
        with http_of(provider, former, store=store) as http:
            assert len(read(http)) == 25
        assert (provider.refreshes, provider.reused) == (refreshes, 0)


def test_a_revoked_sign_in_asks_for_a_person(provider: OAuthServer) -> None:
    store = Store(credentials_of(provider))
    provider.revoke()
    with (
        http_of(provider, store.stored, store=store) as http,
        pytest.raises(AuthError, match=r"\(invalid_grant\): sign in again") as caught,
    ):
        read(http)
    told = "".join(traceback.format_exception(caught.value))
    assert "canary" not in told


def test_a_refresh_token_that_is_used_twice_revokes_the_family(provider: OAuthServer) -> None:
    """The provider of these tests bites: else the tests above would prove nothing."""
    credentials = credentials_of(provider)
    provider.expire()
    first, second = (http_of(provider, credentials, store=Store(credentials)) for _ in range(2))
    assert len(read(first)) == 25
    with pytest.raises(AuthError):
        read(second)
    with pytest.raises(AuthError):
        read(first)
    assert provider.reused >= 1
    first.close()
    second.close()


@pytest.mark.parametrize("place", ["body", "header"])
def test_the_client_says_who_it_is_where_the_provider_expects_it(provider: OAuthServer, place: Any) -> None:
    store = Store(credentials_of(provider))
    provider.expire()
    with http_of(provider, store.stored, store=store, client_secret_in=place) as http:
        assert len(read(http)) == 25
    assert (provider.forms[0].get("client_secret") == CLIENT_SECRET) is (place == "body")


@pytest.mark.parametrize(
    ("status", "headers", "body", "error"),
    [
        (500, {}, b"canary-9", Unavailable),
        (200, {}, b"canary-9", Unavailable),
        (200, {}, b'{"token_type": "canary-9"}', Unavailable),
        (200, {}, b'{"error": "canary-9"}', AuthError),
        (403, {}, b"canary-9", Unavailable),
        (401, {}, b'{"error": "invalid_client", "error_description": "canary-9"}', AuthError),
        (400, {}, b'["canary-9"]', AuthError),
        (429, {"Retry-After": "7"}, b"canary-9", RateLimited),
        (307, {"Location": "/elsewhere?canary-9"}, b"", ConfigError),
        (200, {}, b"x" * 2_000_000, Unavailable),
    ],
)
def test_trouble_of_the_token_endpoint_is_sorted_and_tells_nothing(
    provider: OAuthServer, status: int, headers: dict[str, str], body: bytes, error: type[Exception]
) -> None:
    store = Store(credentials_of(provider))
    before = store.stored
    provider.expire()
    provider.token_answers = [(status, headers, body)]
    with http_of(provider, store.stored, store=store) as http:
        with pytest.raises(error) as caught:
            http.json("/items")
        assert "canary" not in "".join(traceback.format_exception(caught.value))
        assert provider.asked == 1, "a refresh is neither repeated nor redirected"
        assert store.stored is before
        if error is Unavailable:
            assert len(read(http)) == 25, "it goes on once the provider is well"


def test_the_token_endpoint_is_guarded_like_every_address(provider: OAuthServer) -> None:
    store = Store(credentials_of(provider))
    provider.expire()
    context = Context(allowed_hosts=("127.0.0.1",), renew=store.renew)
    auth = OAuth2("http://127.0.0.5:1/token")
    with (
        Http(provider.url, context=context, auth=auth, credentials=store.stored) as http,
        pytest.raises(ConfigError, match=r"127\.0\.0\.5 is not a public address"),
    ):
        http.json("/items")


def test_the_token_endpoint_may_be_derived_from_the_configuration(provider: OAuthServer) -> None:
    class Config(BaseModel):
        url: str

    kind = OAuth2(lambda config: f"{config.url}/token")
    config = Config(url=provider.url)
    assert kind.configured(config).token_url == provider.token_url
    with pytest.raises(ConfigError, match="configured"):
        kind.refresh(credentials_of(provider), lambda *_: (200, b""))


def test_an_old_refresh_token_is_kept_where_none_comes_and_a_lifetime_may_be_text() -> None:
    kind = KINDS["oauth"]
    credentials = kind.accept({"credentials": GIVEN["oauth"]})
    assert credentials is not None
    began = time.time()
    answer = b'{"access_token": "a2", "expires_in": "60"}'
    renewed = kind.refresh(credentials, lambda *_: (200, answer))
    assert isinstance(renewed, OAuth2Credentials)
    assert renewed.refresh_token is not None
    assert renewed.refresh_token.get_secret_value() == "canary-2"
    assert renewed.expires_at is not None
    assert renewed.expires_at.timestamp() == pytest.approx(began + 60, abs=5)
    for lifetime in (b"null", b'"soon"', b"-1", b"1e99", b"NaN"):
        renewed = kind.refresh(
            credentials, lambda *_, said=lifetime: (200, b'{"access_token": "a", "expires_in": %b}' % said)
        )
        assert renewed.expires_at is None  # type: ignore[attr-defined]
