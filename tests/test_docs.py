"""The documentation is whole: what exists is named in it. What a name means there, a person checks."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airweave_server import plugins
from airweave_server.commands import main
from airweave_server.settings import Settings
from running import Server

ROOT = Path(__file__).parents[1]
METHODS = ("get", "post", "patch", "delete", "put")
PAGES = (*sorted(ROOT.glob("*.md")), ROOT / "benchmarks/README.md", *sorted((ROOT / "docs").glob("*.md")))


def page(*names: str) -> str:
    """The text of the pages of these names that there are."""
    found = [ROOT / name for name in names if (ROOT / name).is_file()]
    assert found, f"none of {', '.join(names)} is there"
    return "\n".join(path.read_text() for path in found)


def anchors(path: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub makes them. No page has the same heading twice."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def is_named(word: str, text: str) -> bool:
    return re.search(rf"(?<![\w/-]){re.escape(word)}(?![\w-])", text) is not None


def variables() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        alias: Any = field.validation_alias
        yield str(alias.choices[0]) if alias is not None else name.upper()


def commands() -> Iterator[str]:
    for name in main.COMMANDS:
        inner = getattr(main.load(name), "commands", {})
        yield from (f"{name} {verb}" for verb in inner) if inner else (name,)


@pytest.mark.parametrize("variable", sorted(variables()))
def test_a_setting_is_described(variable: str) -> None:
    assert is_named(variable, page("docs/configuration.md")), f"docs/configuration.md says nothing of {variable}"


@pytest.mark.parametrize("name", sorted(name for name, kind in plugins.sources().items() if not kind.internal))
def test_a_source_is_described_with_its_configuration(name: str) -> None:
    text = page("docs/sources.md")
    assert is_named(name, text), f"docs/sources.md says nothing of {name}"
    for field in plugins.sources()[name].config_model.model_fields:
        assert is_named(field, text), f"docs/sources.md says nothing of {name}'s {field}"


@pytest.mark.parametrize("name", sorted(set(plugins.embedder_names()) - {"test-failing", "test-slow", "test-deadly"}))
def test_an_embedder_is_described(name: str) -> None:
    assert is_named(name, page("docs/embedders.md")), f"docs/embedders.md says nothing of {name}"


def test_a_command_is_described() -> None:
    text = page("README.md", "docs/cli.md")
    every = list(commands())
    assert len(every) >= 13
    missing = [name for name in every if not re.search(rf"(?:`|airweave-server ){name}(?![\w-])", text)]
    assert not missing, f"README.md or docs/cli.md says nothing of {', '.join(missing)}"


def test_a_route_is_described(server: Server) -> None:
    text = re.sub(r"\{\w+\}", "{}", page("docs/api.md"))
    described = server.get("/openapi.json")["paths"]
    missing = []
    for path, ways in described.items():
        plain = re.sub(r"\{\w+\}", "{}", path)
        for method in ways:
            assert method in METHODS
            if not re.search(rf"{method.upper()}[ `|]+{re.escape(plain)}(?![\w/{{-])", text):
                missing.append(f"{method.upper()} {path}")
    assert not missing, f"docs/api.md says nothing of {', '.join(missing)}"


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = []
    for path in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", path.read_text()):
            if "://" in target:
                continue
            place = path.parent / target if target else path
            if not place.exists() or (anchor and anchor not in anchors(place)):
                broken.append(f"{path.name}: {target}{anchor and '#'}{anchor}")
    assert len(PAGES) > 15
    assert not broken


def test_no_page_holds_the_marks_of_a_merge() -> None:
    for path in PAGES:
        marks = re.findall(r"^(?:<{7}|={7}|>{7})(?: .*)?$", path.read_text(), re.MULTILINE)
        assert not marks, f"{path.name}: {marks}"
