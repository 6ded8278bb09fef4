"""``airweave-server sources``: a package that it writes works as it stands, and a trial finds what is wrong with a
source, with few requests and without a server."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from airweave_server.sdk.vendor import Asked, Reply, Vendor
from running import on_a_terminal

TOKEN = "canary-4711"
PAGE = 10


class Api(Vendor):
    """What the written source reads: ``count`` items, ten on a page."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def answer(self, request: Asked) -> Reply:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return Reply({"error": "unauthorized"}, status=401)
        start = int(request.params.get("after", 0))
        items = [
            {"id": number, "title": f"Item {number}", "text": f"Text {number}", "updated_at": "1", "url": "http://x/"}
            for number in range(start, min(start + PAGE, self._count))
        ]
        return Reply({"items": items, "next": start + PAGE if start + PAGE < self._count else None})


@dataclass
class Package:
    """A written package, installed into ``site``."""

    folder: Path
    site: Path

    @property
    def module(self) -> Path:
        return self.site / "airweave_source_my_crm.py"

    def command(self, *arguments: str, given: str = TOKEN, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.site), "ALLOWED_PRIVATE_HOSTS": "127.0.0.1"}
        environment |= {"COLUMNS": "200", "AIRWEAVE_DATA_DIR": str(self.site.parent / "data"), **more}
        return subprocess.run(
            [sys.executable, "-m", "airweave_server", *arguments],
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def check(self, api: Vendor, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
        url = ("--config", f"url={api.url}", "--secret", "access_token=-")
        return self.command("sources", "check", "my_crm", *url, *options, **more)


pytestmark = pytest.mark.usefixtures("scratch")  # each test runs commands: make check leaves them out


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Package:
    place = tmp_path_factory.mktemp("written")
    package = Package(place / "airweave-source-my-crm", place / "site")
    done = subprocess.run(
        [sys.executable, "-m", "airweave_server", "sources", "new", "my_crm"],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "sources check my_crm" in done.stdout
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--target",
            str(package.site),
            str(package.folder),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return package


@pytest.fixture
def package(written: Package, tmp_path: Path) -> Package:
    """A copy of the installed package, to be made wrong."""
    return Package(written.folder, Path(shutil.copytree(written.site, tmp_path / "site")))


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(count=45) as started:
        yield started  # type: ignore[misc]


def change(package: Package, old: str, new: str) -> None:
    text = package.module.read_text()
    assert old in text, f"{old!r} is not in the template any more"
    package.module.write_text(text.replace(old, new))


def test_a_written_package_passes_its_own_tests(written: Package) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=written.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert re.search(r"^1\d passed", done.stdout, re.MULTILINE), done.stdout


def test_a_written_package_has_the_form_that_it_should_have(written: Package) -> None:
    options = ("--isolated", "--line-length", "120")
    for command in (("ruff", "check", *options), ("ruff", "format", "--check", *options), ("mypy", "--strict")):
        done = subprocess.run(
            [sys.executable, "-m", *command, "."],
            cwd=written.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "MYPYPATH": str(Path(__file__).parents[1] / "src")},
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_an_installed_package_is_listed_and_shown_with_its_fields(written: Package) -> None:
    assert re.search(r"my_crm.*url, access_token", written.command("sources").stdout)
    shown = written.command("sources", "show", "my_crm").stdout
    assert re.search(r"url .*string .*required .*The root of the API.* --config url=…", shown)
    assert re.search(r"access_token .*secret .*required .* --secret access_token=-", shown)
    folder = written.command("sources", "show", "folder").stdout
    assert re.search(r"max_file_mb .*number .*20", folder)
    assert re.search(r"include .*array of string .*\[\]", folder)


@pytest.mark.parametrize("name", ["My", "a", "1st", "a-b", "class", "../x", "x" * 41])
def test_a_name_that_cannot_be_one_is_refused(name: str, tmp_path: Path, written: Package) -> None:
    done = written.command("sources", "new", name, "--folder", str(tmp_path / "new"))
    assert done.returncode == 1
    assert "cannot be the name of a source" in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_folder_or_a_source_that_is_there_is_left_alone(tmp_path: Path, written: Package) -> None:
    (tmp_path / "kept").mkdir()
    for name, said in (("other", "already exists"), ("folder", "there is already a source folder")):
        done = written.command("sources", "new", name, "--folder", str(tmp_path / "kept"))
        assert done.returncode == 1
        assert said in done.stderr
    assert not list((tmp_path / "kept").iterdir())


def test_a_good_source_is_found_good_with_few_requests_and_nothing_is_written(package: Package, api: Api) -> None:
    done = package.check(api)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrong" not in done.stdout
    assert "45 entities: 45 Item" in done.stdout
    assert "'0', 'Item 0': 'Text 0'" in done.stdout
    assert re.search(r"ids are unique, and the first \d+ are the same in a second read", done.stdout)
    assert "4 cursors survived JSON" in done.stdout
    assert re.search(r"\d\d+ failures played at 6 requests", done.stdout)
    assert f"{api.requests} requests sent, of at most 20" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    assert not (package.site.parent / "data").exists()


def test_of_a_large_place_no_more_is_read_than_was_allowed(package: Package) -> None:
    with Api(count=100_000) as api:
        done = package.check(api, "--requests", "8")
        assert done.returncode == 0, done.stdout + done.stderr
        assert api.requests == 8
    assert "50 entities, up to the limit of this check" in done.stdout
    assert "wrong" not in done.stdout


READ = 'for page in self.http.pages("/items", PAGES, start=cursor.at if cursor else None):'
WRONG = {
    "swallows what is refused": (
        "import Bearer,", "import SourceError, Bearer,", READ,
        """def quiet():
            count = 0
            try:
                for page in self.http.pages("/items", PAGES, start=cursor.at if cursor else None):
                    count += 1
                    yield page
            except SourceError:
                if not count:
                    raise
        for page in quiet():""",
        r"wrong .*request \d of 6 \(GET /items\) answered by 404.*a job would delete \d+ of 45: \d+",
    ),
    "ends at an empty page": (
        "", "", READ,
        """from airweave_server.sdk import Page
        def by_hand():
            after = cursor.at["at"] if cursor else 0
            while after is not None:
                answer = self.http.json("/items", params={"after": after})
                if not answer["items"]:
                    return
                after = answer["next"]
                yield Page(answer["items"], answer, None if after is None else {"at": after, "read": 0})
        for page in by_hand():""",
        r"wrong .*answered by an empty page, once: .*a job would delete \d+ of 45",
    ),
    "has ids that are not unique": (
        "", "", 'id=str(item["id"]),', 'id=str(item["id"] % 7),', r"wrong +ids are not unique: [\d, ]+",
    ),
    "has ids that are not stable": (
        "", "", 'id=str(item["id"]),', 'id=str(id(self)) + str(item["id"]),', "wrong +a second read returned other ids",
    ),
    "has a cursor that leads too far": (
        "", "", "yield Cursor(at=page.next)", 'yield Cursor(at={**page.next, "at": page.next["at"] + 10})',
        r"wrong +resuming from .* loses \d+",
    ),
    "raises what is no error of a source": (
        "import Bearer,", "import SourceError, Bearer,", READ,
        """def fragile():
            try:
                yield from self.http.pages("/items", PAGES, start=cursor.at if cursor else None)
            except SourceError as error:
                raise KeyError("items") from error
        for page in fragile():""",
        r"wrong .*it raises KeyError, which is not a SourceError: 'items'",
    ),
    "leaves out a text that it cannot read": (
        "PAGES = NextCursor(", """def text_of(source, item):
    from airweave_server.sdk import Unreadable
    try:
        source.http.json("/items", params={"after": 0, "of": item["id"]}, one_entity=True)
    except Unreadable:
        return ""
    return item["text"]


PAGES = NextCursor(""", 'text=item["text"],', "text=text_of(self, item),",
        r"wrong .*answered by 404, once: the read yields entities without their text",
    ),
    "shows its token": (
        "", "", "    rate = Rate(", """
    def __repr__(self) -> str:
        return f"MyCrm({self.credentials.access_token.get_secret_value()})"

    rate = Rate(""",
        "wrong +a repr shows a secret",
    ),
    "logs its token": (
        "", "", '        self.http.json("/items")\n',
        """        import logging
        logging.getLogger("crm").debug("token %s", self.credentials.access_token.get_secret_value())
        self.http.json("/items")
""",
        "wrong +the log shows a secret",
    ),
}  # fmt: skip


@pytest.mark.parametrize("flaw", sorted(WRONG))
def test_a_wrong_source_is_found_wrong(flaw: str, package: Package, api: Api) -> None:
    head, headed, old, new, said = WRONG[flaw]
    change(package, head, headed)
    change(package, old, new)
    done = package.check(api)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(said, done.stdout), done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert api.requests <= 20


FIELDS = """
    depth: int = Field(description="How far down to look.")
    is_deep: bool
    order: Literal["up", "down"]
    labels: list[str]
    more: dict[str, int] = {}
"""


def test_fields_of_every_type_are_asked_for_again_until_they_fit(package: Package, api: Api) -> None:
    change(package, 'API, such as https://api.example.com")\n', 'API")\n' + FIELDS)
    change(package, "from pydantic import", "from typing import Literal\n\nfrom pydantic import")
    change(package, '        self.http.json("/items")\n', "        print(self.config)\n")
    answers = [
        ("Address", api.url),
        ("Depth (How far down to look)", "deep"),
        ("'deep' is not a number", "3"),
        ("Is deep", "y"),
        ("Order [up, down]", "sideways"),
        ("is not one of up, down", "down"),
        ("one per line", "one"),
        ("one", "two"),
        ("two", ""),
        ("Access token", TOKEN),
    ]
    environment = {**os.environ, "PYTHONPATH": str(package.site), "ALLOWED_PRIVATE_HOSTS": "127.0.0.1"}
    code, shown = on_a_terminal(["sources", "check", "my_crm", "--config", 'more={"a": 1}'], environment, answers)
    assert code == 0, shown
    assert "depth=3 is_deep=True order='down' labels=['one', 'two'] more={'a': 1}" in " ".join(shown.split())
    assert TOKEN not in shown
    done = package.check(api, "--config", "more=[1]")
    assert "more: give a JSON object" in done.stderr


def test_credentials_that_are_refused_and_what_is_missing_are_said(package: Package, api: Api) -> None:
    url = ("--config", f"url={api.url}")
    refused = package.command("sources", "check", "my_crm", *url, "--secret", "access_token=-", given="other-token")
    assert refused.returncode == 1
    assert re.search(r"wrong .*AuthError: .* does not accept the credentials \(401\)", refused.stdout)
    assert "other-token" not in refused.stdout + refused.stderr
    missing = package.command("sources", "check", "my_crm")
    assert "--config url=…" in missing.stderr
    assert "--secret access_token=-" in missing.stderr
    strange = package.command("sources", "check", "my_crmm", *url)
    assert "there is no source 'my_crmm' here; the sources are feed, folder, my_crm" in strange.stderr


def test_a_source_that_sends_no_requests_is_tried_without_failures(package: Package, tmp_path: Path) -> None:
    place = tmp_path / "notes"
    place.mkdir()
    for number in range(30):
        (place / f"{number}.md").write_text(f"note {number}")
    done = package.command(
        "sources", "check", "folder", "--config", f"path={place}", AIRWEAVE_FOLDER_ROOTS=str(tmp_path)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 entities: 30 FileEntity" in done.stdout
    assert "no failures were played" in done.stdout
