"""The page /docs: whole, open, and without anything from elsewhere."""

import re
from html import unescape
from html.parser import HTMLParser

import httpx
import pytest

from running import Running, Server


class Page(HTMLParser):
    """What a page loads, names and carries inline."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self.forms: set[tuple[str, str]] = set()
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, given: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in given}
        self.loaded += [attributes[name] for name in ("src", "href") if name in attributes]
        self.inline += [name for name in attributes if name.startswith("on") or name == "style"]
        self._in_script = tag in ("script", "style")
        if tag == "form":
            self.forms.add((attributes["data-method"], attributes["data-path"]))

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False


@pytest.fixture(scope="module")
def server(running: Running) -> Server:
    return running.start(AUTH_ENABLED="true")


def test_it_describes_every_route_and_loads_only_its_own_files(server: Server) -> None:
    for place in ("/docs", "/docs/", "/api/v1/docs"):
        answer = httpx.get(server.url + place)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = Page(answer.text)
    described = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    assert page.forms == {(method.upper(), path) for path, ways in described.items() for method in ways}
    assert page.inline == []
    assert set(page.loaded) == {"/docs/page.css", "/docs/page.js", "/openapi.json"}
    for place in page.loaded:
        loaded = httpx.get(server.url + place)
        assert loaded.status_code == 200
        if place != "/openapi.json":
            assert not any(word in loaded.text for word in ("http://", "https://", "innerHTML", "eval("))
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert httpx.get(f"{server.url}/docs/..%2fapp.py").status_code == 404
    assert httpx.get(f"{server.url}/redoc").status_code == 401


def test_its_examples_are_taken_by_the_server(running: Running) -> None:
    server = running.start()
    page = server.http.get("/docs").text
    [form] = re.findall(r'data-method="POST" data-path="/collections">.*?</form>', page, re.DOTALL)
    [example] = re.findall(r"<textarea[^>]*>(.*?)</textarea>", form, re.DOTALL)
    made = server.http.post("/collections", content=unescape(example), headers={"Content-Type": "application/json"})
    assert made.status_code == 200
