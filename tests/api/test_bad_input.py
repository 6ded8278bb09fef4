"""What should never be sent: it is answered with an error that names field and rule, never with 500."""

import json
import os
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from running import Running, Server

MB = 1024 * 1024
IS_JSON = {"Content-Type": "application/json"}
STUB = {"credentials": {"stub_key": "k"}}


@pytest.fixture(scope="module")
def collection(server: Server) -> str:
    return server.collection()


@pytest.fixture(scope="module")
def connection(server: Server, collection: str) -> str:
    made = server.connect(collection, "stub", {"entity_count": 3}, authentication=STUB)
    assert server.sync(made)["status"] == "completed"
    return made


@pytest.fixture(autouse=True)
def nothing_unexpected(server: Server) -> Iterator[None]:
    """No test leaves the server dead, or with an error in its log that nobody expected."""
    began_at = server.log.stat().st_size
    yield
    assert server.process.poll() is None
    said = server.log.read_bytes()[began_at:].decode(errors="replace")
    assert "request_failed" not in said
    assert "database_unreachable" not in said


def refused(answer: httpx.Response, status: int | None = None) -> dict[str, str]:
    """Check that this is an error as the API promises it, and return what it says by place."""
    assert 400 <= answer.status_code < 500, f"{answer.request.method} {answer.request.url}: {answer.text[:300]}"
    assert status in (None, answer.status_code), f"{answer.status_code}: {answer.text[:300]}"
    body = answer.json()
    assert isinstance(body, dict)
    assert body.keys() <= {"detail", "errors"}
    assert body
    if "detail" in body:
        assert isinstance(body["detail"], str)
        assert body["detail"]
    said = {place: text for part in body.get("errors", []) for place, text in part.items()}
    assert all(place and isinstance(text, str) and text for place, text in said.items())
    if answer.status_code == 422:
        assert said or body["detail"]
        assert all(place.split(".")[0] in ("body", "query", "path") for place in said)
    return said


def send(server: Server, method: str, path: str, content: Any, **query: str) -> httpx.Response:
    return server.http.request(method, path, content=content, params=query or None, headers=IS_JSON)


def post(server: Server, path: str, content: Any) -> httpx.Response:
    return send(server, "POST", path, content)


def connect(server: Server, collection: str, short_name: str, config: Any) -> httpx.Response:
    body = {
        "short_name": short_name, "readable_collection_id": collection, "config": config, "sync_immediately": False,
        "authentication": STUB,
    }  # fmt: skip
    return server.http.post("/source-connections", json=body)


def test_a_body_that_is_not_json_is_refused(server: Server) -> None:
    for content in (
        b"",
        b"not json",
        b"{",
        b'{"name": "x",}',
        b"\xff\xfe\x00",
        b'{"name": "\xff"}',
        b"\x00",
        b"\xed\xa0\x80",
    ):
        said = refused(post(server, "/collections", content))
        assert not said or said.keys() == {"body"}, content  # without the byte offset
    form = server.http.post("/collections", data={"name": "A form"})
    assert "body" in refused(form, 422)


@pytest.mark.parametrize("body", [None, True, 7, 1.5, "text", [], [{"name": "Name"}], {"name": {"a": 1}}])
def test_a_body_of_the_wrong_type_is_refused(server: Server, body: Any) -> None:
    said = refused(post(server, "/collections", json.dumps(body)), 422)
    assert all(place.startswith("body") for place in said)


def test_fields_of_the_wrong_type_are_named(server: Server, collection: str) -> None:
    for field, value in (("name", 7), ("readable_id", ["a"]), ("sync_config", "text")):
        body = {"name": "A name", field: value}
        assert f"body.{field}" in refused(server.http.post("/collections", json=body), 422)
    body = {"name": "A name", "sync_config": {"behavior": ["a list"]}}
    assert "body.sync_config.behavior" in refused(server.http.post("/collections", json=body), 422)
    for field, value in (
        ("short_name", None),
        ("config", []),
        ("schedule", "daily"),
        ("sync_immediately", "perhaps"),
        ("authentication", "secret"),
        ("description", {}),
        ("redirect_url", 1),
    ):
        wanted = {"short_name": "stub", "readable_collection_id": collection, field: value}
        assert f"body.{field}" in refused(server.http.post("/source-connections", json=wanted), 422)


@pytest.mark.parametrize("text", ["nul \x00 in it", "lone \ud800 surrogate"])
def test_characters_that_no_database_takes_are_refused_wherever_they_stand(
    server: Server, collection: str, connection: str, text: str
) -> None:
    def bodies() -> Iterator[tuple[str, str, Any]]:
        wanted = {"short_name": "stub", "readable_collection_id": collection, "authentication": STUB}
        yield "POST", "/collections", {"name": text}
        yield "POST", "/collections", {"name": "Name", "sync_config": {"behavior": [text]}}
        yield "POST", "/collections", {"name": "Name", "sync_config": {text: 1}}
        yield "PATCH", f"/collections/{collection}", {"name": text}
        yield "POST", f"/collections/{collection}/search/instant", {"query": text}
        for field in ("name", "short_name", "readable_collection_id", "description"):
            yield "POST", "/source-connections", {**wanted, field: text}
        yield "POST", "/source-connections", {**wanted, "config": {"custom_content_prefix": text}}
        yield "POST", "/source-connections", {**wanted, "authentication": {"credentials": {"stub_key": text}}}
        yield "POST", "/source-connections", {**wanted, "schedule": {"cron": text}}
        yield "PATCH", f"/source-connections/{connection}", {"description": text}
        yield "POST", f"/source-connections/{connection}/run", {"access_token": text}
        yield "POST", f"/source-connections/{connection}/entities/retry", {"entity_ids": [text]}
        yield "POST", f"/collections/{collection}/reembed", {"embedder": text}

    for method, path, body in bodies():
        answer = send(server, method, path, json.dumps(body))
        said = refused(answer, 422)
        assert "NUL" in "".join(said.values()), f"{method} {path} {body}: {answer.text}"


def test_a_cursor_is_refused_since_a_search_has_none(server: Server, collection: str) -> None:
    for path in ("search/instant", "search/classic", "search", "search/stream"):
        answer = server.http.post(
            f"/collections/{collection}/{path}", json={"query": "q", "cursor": "of another query"}
        )
        assert "page with offset" in refused(answer, 422)["body.cursor"]
        plain = server.http.post(f"/collections/{collection}/{path}", json={"query": "q", "cursor": None})
        assert plain.status_code == 200


def test_nul_in_a_path_or_a_query_is_named(server: Server, connection: str) -> None:
    assert "path.readable_id" in refused(server.http.get("/collections/a%00b"), 422)
    assert "path.readable_id" in refused(server.http.post("/collections/%00/search/instant", json={"query": "q"}), 422)
    assert "query.search" in refused(server.http.get("/collections?search=%00"), 422)
    assert "query.search" in refused(server.http.get("/collections/count?search=a%00"), 422)
    assert "query.collection" in refused(server.http.get("/source-connections?collection=%00"), 422)
    refused(server.http.get("/sources/%00"))
    for surrogate in ("%ED%A0%80", "%FF", "%C0%80"):
        refused(server.http.get(f"/collections/{surrogate}"), 404)
        assert server.http.get(f"/collections?search={surrogate}").json() == []
        refused(server.http.get(f"/source-connections/{connection}/jobs/{surrogate}"), 422)


def test_numbers_beyond_all_bounds_are_refused_or_kept(server: Server, collection: str) -> None:
    for number in ("1e999", "-1e999", "NaN", "Infinity", "9" * 5000):
        wanted = f'{{"name": "Name", "sync_config": {{"number": [{number}]}}}}'
        refused(post(server, "/collections", wanted))
        refused(post(server, f"/collections/{collection}/search/instant", f'{{"query": "q", "limit": {number}}}'))
        refused(server.http.get("/collections", params={"skip": number}), 422)
    big = "9" * 400
    kept = post(server, "/collections", f'{{"name": "Name", "sync_config": {{"number": {big}}}}}')
    assert kept.json()["sync_config"]["number"] == int(big)
    for config in ({"entity_count": int(big)}, {"entity_count": -1}, {"entity_count": 1.5}, {"entity_count": "many"}):
        assert "body.config.entity_count" in refused(connect(server, collection, "stub", config), 422)
    assert "body.config.max_file_mb" in refused(
        connect(server, collection, "folder", {"path": str(server.folder()), "max_file_mb": int(big)}), 422
    )
    for limit in ("0", "-1", "1001", big, "1.5", "", "ten"):
        assert "query.limit" in refused(server.http.get("/collections", params={"limit": limit}), 422)


def test_a_body_of_eleven_mb_is_413_with_and_without_its_length(server: Server) -> None:
    block = b" " * MB

    def stream() -> Iterator[bytes]:
        for _ in range(11):
            yield block

    announced = post(server, "/collections", block * 11)
    refused(announced, 413)
    assert "MAX_BODY_MB" in announced.json()["detail"]
    chunked = post(server, "/collections", stream())
    assert "content-length" not in chunked.request.headers
    refused(chunked, 413)
    just_fits = json.dumps({"name": "Name", "unknown": "x" * (9 * MB)})
    assert post(server, "/collections", just_fits).status_code == 200


def test_a_request_that_breaks_off_in_its_body_harms_nobody(server: Server) -> None:
    place = urlsplit(server.url)
    head = b"POST /collections HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
        connection.sendall(head + b'{"name":')
    assert server.get("/health/live") == {"status": "alive"}


@pytest.mark.parametrize("depth", [60, 300, 950, 3_000, 100_000])
def test_deep_nesting_is_refused(server: Server, collection: str, depth: int) -> None:
    nested = "[" * depth + "]" * depth
    for body in (nested, f'{{"name": "Name", "sync_config": {{"a": {nested}}}}}'):
        refused(post(server, "/collections", body))
    config = f'{{"short_name": "stub", "readable_collection_id": "{collection}", "config": {{"a": {nested}}}}}'
    refused(post(server, "/source-connections", config))
    objects = '{"a":' * depth + "1" + "}" * depth
    refused(post(server, f"/collections/{collection}/search/instant", f'{{"query": "q", "filter": {objects}}}'))


@pytest.mark.parametrize("id", ["no-uuid", "7", "00000000-0000-0000-0000-00000000000g", "%20", "x" * 3000])
def test_an_id_that_is_no_uuid_is_refused_by_every_route(server: Server, connection: str, id: str) -> None:
    for method, path in (
        ("GET", f"/source-connections/{id}"),
        ("PATCH", f"/source-connections/{id}"),
        ("DELETE", f"/source-connections/{id}"),
        ("POST", f"/source-connections/{id}/run"),
        ("GET", f"/source-connections/{id}/entities"),
    ):
        body = {"name": "Name"} if method == "PATCH" else None
        assert "path.connection_id" in refused(server.http.request(method, path, json=body), 422)
    answer = server.http.post(f"/source-connections/{connection}/jobs/{id}/cancel")
    assert "path.job_id" in refused(answer, 422)
    answer = server.http.post(f"/source-connections/{connection}/held-deletes/{id}/dismiss")
    assert "path.plan_id" in refused(answer, 422)


def test_an_unknown_source_and_an_unknown_collection_are_404(server: Server, collection: str) -> None:
    answer = connect(server, collection, "no_such_source", {})
    refused(answer, 404)
    assert "no_such_source" in answer.json()["detail"]
    refused(connect(server, "no-such-collection", "stub", {}), 404)


def test_a_folder_that_cannot_be_connected_says_why(server: Server, running: Running, collection: str) -> None:
    folder = server.folder()
    (folder / "file.txt").write_text("a file")
    (running.place / "outside").mkdir()
    (folder / "way-out").symlink_to(running.place / "outside")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "fifo")
    for path, words in (
        (folder / "missing", ("missing", "not there", "no such", "does not exist", "not exist")),
        (folder / "file.txt", ("not a folder", "no folder", "not a directory", "is a file")),
        (folder / "fifo", ("not a folder", "no folder", "not a directory")),
        (running.place / "outside", ("outside the folders",)),
        (folder / "way-out", ("outside the folders",)),
        (f"{folder}/../../outside", ("outside the folders",)),
        ("/etc", ("outside the folders",)),
        ("/proc/self", ("outside the folders",)),
        (folder / "loop", ("loop", "symlink", "not there", "does not exist")),
        ("relative/path", ("absolute",)),
        ("", ("absolute",)),
        ("/" + "x" * 5000, ("",)),
        ("~nobody-of-this-name/x", ("",)),
    ):
        answer = connect(server, collection, "folder", {"path": str(path)})
        said = refused(answer, 422)
        [place] = said
        assert place.startswith("body.config"), said
        assert any(word.lower() in said[place].lower() for word in words), f"{path}: {said}"


def test_globs_that_are_none_are_refused(server: Server, collection: str) -> None:
    for field in ("include", "exclude"):
        for globs in ("*.md", [7], ["x"] * 201, [None]):
            config = {"path": str(server.folder()), field: globs}
            said = refused(connect(server, collection, "folder", config), 422)
            assert all(place.startswith(f"body.config.{field}") for place in said)


def test_a_host_bent_to_loopback_and_a_foreign_origin_are_403(server: Server) -> None:
    port = urlsplit(server.url).port
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "",
        "localhost@evil.example",
        "[::",
        "10.0.0.1",
    ):
        answer = server.http.get("/collections", headers={"Host": host})
        refused(answer, 403)
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "file://", "http://[::"):
        refused(server.http.post("/collections", json={"name": "Name"}, headers={"Origin": origin}), 403)
        refused(server.http.get("/health", headers={"Origin": origin}), 403)
    for host in ("localhost", f"LOCALHOST:{port}", "127.0.0.1", f"[::1]:{port}"):
        assert server.http.get("/collections", headers={"Host": host}).status_code == 200
    own = server.http.get("/collections", headers={"Origin": server.url})
    assert own.status_code == 200
    assert "access-control-allow-origin" not in own.headers


def test_a_page_of_another_local_web_app_is_refused(server: Server, connection: str) -> None:
    port = urlsplit(server.url).port or 0
    runs = len(server.get(f"/source-connections/{connection}/jobs"))
    here = f"localhost:{port}"
    for origin in ("http://localhost:3000", "http://localhost", "https://localhost", f"http://127.0.0.1:{port}",
                   f"http://localhost:{port + 1}", f"ftp://localhost:{port}", f"http://localhost:{port}/", f"//{here}",
                   f"http://a@localhost:{port}", here, ""):  # fmt: skip
        answer = server.http.post(f"/source-connections/{connection}/run", headers={"Host": here, "Origin": origin})
        refused(answer, 403)
    for site in ("cross-site", "same-site", "anything"):
        headers = {"Sec-Fetch-Site": site}
        refused(server.http.post(f"/source-connections/{connection}/run", headers=headers), 403)
        refused(server.http.get("/collections", headers=headers), 403)
        headers |= {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert server.http.get("/collections", headers=headers).status_code == 200  # a person follows a link
        refused(server.http.post(f"/source-connections/{connection}/run", headers=headers), 403)
    for twice in (
        f"Host: {here}\r\nHost: {here}",
        f"Host: {here}\r\nOrigin: http://{here}\r\nOrigin: http://evil.example",
    ):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"POST /source-connections/{connection}/run HTTP/1.1\r\n{twice}\r\n\r\n".encode())
            assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    assert len(server.get(f"/source-connections/{connection}/jobs")) == runs
    for site in ("same-origin", "none"):
        headers = {"Host": here, "Origin": f"http://{here}", "Sec-Fetch-Site": site}
        assert server.http.get("/collections", headers=headers).status_code == 200


def test_further_names_may_be_allowed(running: Running) -> None:
    server = running.start(ALLOWED_HOSTS="weave.example, other.example")

    def status(**headers: str) -> int:
        return server.http.get("/health/live", headers={k.replace("_", "-"): v for k, v in headers.items()}).status_code

    assert status(Host="weave.example") == 200
    assert status(Host="evil.example") == 403
    # a proxy with TLS passes the Host on, or sends its own
    assert status(Host="weave.example", Origin="https://weave.example") == 200
    assert status(Host="weave.example:8443", Origin="https://weave.example:8443") == 200
    assert status(Origin="https://other.example") == 200
    assert status(Host="weave.example", Origin="https://other.example") == 403
    assert status(Host="weave.example", Origin="https://weave.example:3000") == 403
    assert status(Origin="https://other.example:3000") == status(Origin="http://other.example") == 403
    # the scheme counts where a trusted proxy says it
    assert status(Host="weave.example", Origin="http://weave.example") == 200
    told = {"Host": "weave.example", "X_Forwarded_Proto": "https"}
    assert status(**told, Origin="https://weave.example") == 200
    assert status(**told, Origin="http://weave.example") == 403
    assert server.terminate() == 0
