"""The example of the documentation works as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/sources.md"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with the files of "Write a source"."""
    text = PAGE.read_text().partition("## Write a source")[2]
    files = re.findall(r"^`([\w.]+\.(?:py|toml))`[^\n]*\n\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["airweave_recipes.py", "pyproject.toml", "test_recipes.py"]
    for name, content in files:
        (tmp_path / name).write_text(content)
    return tmp_path


def run_tests(folder: Path) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_recipes.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300).stdout


def test_the_connector_of_the_documentation_passes_its_tests(package: Path) -> None:
    assert re.search(r"^1[0-9] passed in", run_tests(package), re.MULTILINE)


def test_the_message_of_the_documentation_is_what_a_wrong_connector_is_told(package: Path) -> None:
    path = package / "airweave_recipes.py"
    swallows = """

_read = Recipes.read


def read(self, partition, cursor):
    met = False
    try:
        for item in _read(self, partition, cursor):
            met = True
            yield item
    except ConfigError:
        if not met:
            raise


Recipes.read = read
"""
    path.write_text(path.read_text().replace("import Bearer,", "import Bearer, ConfigError,") + swallows)
    said = re.search(r"```\n(request 2 of 3 .*?)```", PAGE.read_text(), re.DOTALL)
    assert said
    assert " ".join(said[1].split()) in " ".join(run_tests(package).split())
