"""What a connector inherits: its client, with rate and signature, and its traits."""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from oauth_server import OAuthServer
from pydantic import BaseModel, SecretStr
from scripted_server import ScriptedServer

from airweave_server.sdk import (
    Bearer,
    BearerCredentials,
    Context,
    Items,
    OAuth2,
    Partition,
    Rate,
    Source,
    Traits,
)
from airweave_server.sdk.http import Http


class Config(BaseModel):
    url: str = "http://127.0.0.1"
    by_table: bool = False


class Cursor(BaseModel):
    page: int = 0


class Shop(Source[Config, Cursor]):
    name = "shop"
    title = "Shop"
    auth = Bearer()
    rate = Rate(1000, 1)
    max_parallel = 2

    def read(self, partition: Partition, cursor: Cursor | None) -> Items[Cursor]:
        self.http.json("/partitions")
        yield from ()


class Tables(Shop):
    is_window = True

    @classmethod
    def traits(cls, config: Config) -> Traits:
        return Traits(tells_changes=config.by_table, proves_listing=not config.by_table)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        server.token = "canary-7"
        yield server


def shop(server: ScriptedServer, kind: type[Shop] = Shop, **context: Any) -> Shop:
    credentials = BearerCredentials(access_token=SecretStr("canary-7"))
    return kind(Config(url=server.url), credentials, Context(allowed_hosts=("127.0.0.1",), **context))


def test_the_client_of_a_source_signs_and_keeps_the_rate_of_the_class(server: ScriptedServer) -> None:
    booked: list[Rate] = []

    def pace(rate: Rate) -> float:
        booked.append(rate)
        return 0.0

    source = shop(server, pace=pace)
    list(source.read(Partition(""), None))
    with Http(server.url, context=source.context, headers={"Authorization": "Bearer canary-7"}) as other:
        other.json("/partitions")
    assert booked == [Rate(1000, 1)] * 2
    assert server.log[0]["headers"]["authorization"] == "Bearer canary-7"
    assert "canary" not in repr(vars(source))
    source.close()


def test_the_context_of_the_engine_goes_on_to_stop_the_source(server: ScriptedServer) -> None:
    context = Context()
    source = Shop(Config(), None, context)
    assert source.context.stop is context.stop
    assert context.rate is None
    assert Shop(Config(), None, Context(rate=Rate(1, 1))).context.rate == Rate(1, 1), "the engine's own goes first"


def test_threads_that_use_a_source_at_once_have_one_client(server: ScriptedServer) -> None:
    source = shop(server)
    with ThreadPoolExecutor(16) as threads:
        assert len({id(http) for http in threads.map(lambda _: source.http, range(64))}) == 1
    source.close()


def test_a_source_closes_its_client_and_makes_none_to_close_it(server: ScriptedServer) -> None:
    source = shop(server)
    source.close()
    assert "http" not in vars(source)
    list(source.read(Partition(""), None))
    connections = source.http._pool.connections
    assert connections
    source.close()
    assert not source.http._pool.connections
    gc.collect()  # a socket that was left open would warn, and fail


def test_a_source_may_set_a_client_of_its_own(server: ScriptedServer) -> None:
    class Own(Shop):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.http = Http(f"{self.config.url}/v2", context=self.context)

    source = shop(server, Own)
    assert repr(source.http).endswith("/v2')")
    source.close()


def test_the_token_endpoint_comes_from_the_configuration() -> None:
    class Docs(Shop):
        auth = OAuth2(lambda config: f"{config.url}/token", rotates=False)  # type: ignore[assignment]

        def read(self, partition: Partition, cursor: Cursor | None) -> Items[Cursor]:
            self.http.json("/items")
            yield from ()

    with OAuthServer(rotates=False) as provider:
        credentials = Docs.auth.accept({"credentials": provider.sign_in()})
        provider.expire()
        source = Docs(Config(url=provider.url), credentials, Context(allowed_hosts=("127.0.0.1",)))
        list(source.read(Partition(""), None))
        assert provider.refreshes == 1
        source.close()


def test_traits_are_those_of_the_class_or_of_the_configuration() -> None:
    assert Shop.traits(Config()) == Traits(max_parallel=2)
    assert Tables.traits(Config(by_table=True)) == Traits(tells_changes=True, proves_listing=False)
    assert Traits() == Traits(False, False, False, False, False, False, True, 4)
