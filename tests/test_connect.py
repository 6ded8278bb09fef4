"""Connecting from the command line: options by type, secrets that never stand in a command, questions on a real
terminal, and nothing connected twice."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from running import Finished, Running, Server, ok, on_a_terminal, refusal
from servers.scripted_server import ScriptedServer, items

SECRET = "canary-4711-secret"


@pytest.fixture(scope="module")
def server(running: Running) -> Server:
    return running.start()


def command(running: Running, server: Server, *arguments: str, **more: str) -> Finished:
    return running.command(*arguments, **{"API_URL": server.url, "COLUMNS": "200", **more})


def piped(running: Running, server: Server, given: str, *arguments: str) -> Finished:
    return subprocess.run(
        [sys.executable, "-m", "airweave_server", *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        env=running.environment(API_URL=server.url, COLUMNS="200"),
        check=False,
    )


def on_terminal(
    running: Running, server: Server, arguments: Sequence[str], answers: Sequence[tuple[str, str]]
) -> tuple[int, str]:
    return on_a_terminal(arguments, running.environment(API_URL=server.url), answers)


def connected(server: Server, collection: str) -> list[dict[str, object]]:
    return list(server.get("/source-connections", collection=collection))


def test_any_source_is_connected_with_a_secret_from_standard_input(running: Running, server: Server) -> None:
    with ScriptedServer() as source:
        source.partitions["a"] = items(7)
        done = piped(
            running,
            server,
            SECRET + "\n",
            "connect",
            "scripted",
            "-c",
            "scripted-in",
            "--config",
            f"url={source.url}",
            "--config",
            "lazy=true",
            "--config",
            "attempts=2",
            "--secret",
            "token=-",
            "--schedule",
            "none",
            "--name",
            "From the shell",
        )
        said = ok(done)
        assert f"Bearer {SECRET}" in {entry["headers"].get("authorization") for entry in source.log}
    assert "7 entities" in said
    assert "completed: 7 inserted" in said
    [one] = connected(server, "scripted-in")
    found = server.get(f"/source-connections/{one['id']}")
    assert (found["name"], found["schedule"]) == ("From the shell", None)
    assert (found["config"]["lazy"], found["config"]["attempts"]) == (True, 2)
    assert SECRET not in done.stdout + done.stderr + server.log.read_text()


def test_a_secret_comes_from_a_file_or_a_variable(running: Running, server: Server, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET + "\n")
    with ScriptedServer() as source:
        source.partitions["a"] = items(1)
        for collection, origin in (("from-file", f"@{file}"), ("from-variable", "env:MY_TOKEN")):
            source.log.clear()
            ok(
                command(
                    running,
                    server,
                    "connect",
                    "scripted",
                    "-c",
                    collection,
                    "--config",
                    f"url={source.url}",
                    "--secret",
                    f"token={origin}",
                    MY_TOKEN=SECRET,
                )
            )
            assert source.log[0]["headers"]["authorization"] == f"Bearer {SECRET}"
    missing = tmp_path / "missing"
    for origin, why in ((f"@{missing}", "cannot be read: No such file"), ("env:MY_TOKEN", "env:MY_TOKEN is empty")):
        line = refusal(command(running, server, "connect", "scripted", "--secret", f"token={origin}"))
        assert why in line


def test_a_secret_in_the_command_is_refused_and_not_shown(running: Running, server: Server) -> None:
    for option in ("--secret", "--config"):
        done = command(running, server, "connect", "scripted", option, f"token={SECRET}")
        line = refusal(done)
        assert SECRET not in line
        assert "token=-" in line
        assert "token=@FILE" in line
    assert SECRET not in refusal(command(running, server, "connect", "scripted", "--secret", SECRET))


def test_without_a_terminal_all_that_is_missing_is_named_with_its_option(running: Running, server: Server) -> None:
    line = refusal(command(running, server, "connect", "exception_stub", "-c", "never-made"))
    assert "stub_key" in line
    assert "--secret stub_key=-" in line
    assert "--config url=…" in refusal(command(running, server, "connect", "scripted"))
    assert server.http.get("/collections/never-made").status_code == 404


def test_what_does_not_fit_a_field_is_said_with_the_field(running: Running, server: Server) -> None:
    for config, said in (
        ("attempts=many", "attempts: 'many' is not a number"),
        ("lazy=perhaps", "lazy: 'perhaps' is neither true nor false"),
        ("urls=x", "scripted has no field 'urls'; it has url, lazy"),
        ("url", "write the option as --config FIELD=VALUE"),
    ):
        assert said in refusal(command(running, server, "connect", "scripted", "--config", config))
    twice = ("--config", "url=a", "--config", "url=b")
    assert "url is given twice" in refusal(command(running, server, "connect", "scripted", *twice))


def test_a_source_that_is_not_there_lists_those_that_are(running: Running, server: Server) -> None:
    line = refusal(command(running, server, "connect", "githup"))
    assert "there is no source 'githup'" in line
    assert "folder" in line
    assert "scripted" in line


def test_on_a_terminal_what_is_missing_is_asked_for_and_secrets_are_not_shown(running: Running, server: Server) -> None:
    place = server.folder("asked")
    (place / "a.md").write_text("something to find")
    code, shown = on_terminal(running, server, ["connect", "folder", "-c", "asked"], [("Path", str(place))])
    assert code == 0, shown
    assert "completed: 1 inserted" in shown

    code, shown = on_terminal(
        running, server, ["connect", "exception_stub", "-c", "asked-2", "--no-wait"], [("Stub key", SECRET)]
    )
    assert code == 0, shown
    assert "Connected" in shown
    assert SECRET not in shown


def test_on_a_terminal_a_dash_asks_for_the_secret(running: Running, server: Server) -> None:
    with ScriptedServer() as source:
        source.partitions["a"] = items(2)
        arguments = ["connect", "scripted", "-c", "dash", "--config", f"url={source.url}", "--secret", "token=-"]
        code, shown = on_terminal(running, server, arguments, [("Token", SECRET)])
        assert code == 0, shown
        assert f"Bearer {SECRET}" in {entry["headers"].get("authorization") for entry in source.log}
    assert SECRET not in shown
    assert "2 inserted" in shown


def test_a_folder_that_is_connected_already_is_synced_and_not_connected_twice(
    running: Running, server: Server, tmp_path: Path
) -> None:
    place = server.folder("twice")
    (place / "a.md").write_text("one thing")
    ok(command(running, server, "add", str(place), "-c", "twice", "--include", "*.md"))
    (place / "b.md").write_text("another thing")
    link = server.folders / "link-to-twice"
    link.symlink_to(place)
    for path in (str(place), f"{place}/../twice", str(link)):
        said = ok(command(running, server, "add", path, "-c", "twice"))
        assert "already connected to twice" in said
        assert "completed:" in said
    assert "2 kept" in said
    assert len(connected(server, "twice")) == 1
    assert len(server.found("twice", "thing")) == 2
    assert "already connected to twice" in ok(
        command(running, server, "connect", "folder", "-c", "twice", "--config", f"path={place}")
    )
    ok(command(running, server, "add", str(place), "-c", "twice-elsewhere"))
    assert len(connected(server, "twice-elsewhere")) == 1


def test_other_options_than_its_own_are_shown_and_refused(running: Running, server: Server) -> None:
    place = server.folder("others")
    (place / "a.txt").write_text("one thing")
    ok(command(running, server, "add", str(place), "-c", "others", "--include", "*.txt"))
    [one] = connected(server, "others")
    done = command(running, server, "add", str(place), "-c", "others", "--include", "*.md", "--name", "Another")
    line = refusal(done)
    assert f"PATCH {server.url}/source-connections/{one['id']}" in line
    assert "include: it has ['*.txt'], you gave ['*.md']" in done.stdout
    assert "name: it has others, you gave Another" in done.stdout
    assert len(server.get(f"/source-connections/{one['id']}/jobs")) == 1
    assert "already" in ok(command(running, server, "add", str(place), "-c", "others", "--include", "*.txt"))
    assert "english, which is fixed" in refusal(
        command(running, server, "add", str(place), "-c", "others", "--language", "german")
    )


def test_other_credentials_than_those_that_are_stored_are_refused(running: Running, server: Server) -> None:
    with ScriptedServer() as source:
        source.partitions["a"] = items(2)
        arguments = ("connect", "scripted", "-c", "signed", "--config", f"url={source.url}")
        ok(piped(running, server, SECRET, *arguments, "--secret", "token=-"))
        done = piped(running, server, "another-token", *arguments, "--secret", "token=-")
        assert "PATCH" in refusal(done)
        assert "token: it has the stored one, you gave another one" in done.stdout
        assert "another-token" not in done.stdout + done.stderr
        assert "already" in ok(command(running, server, *arguments))
        with_slash = (*arguments[:-1], f"url={source.url}/")
        assert "already" in ok(command(running, server, *with_slash))
    assert len(connected(server, "signed")) == 1


def test_lists_and_objects_are_read_by_their_type(running: Running, server: Server) -> None:
    place = server.folder("lists")
    (place / "a.md").write_text("one thing")
    globs = (
        "--config",
        "include=*.md",
        "--config",
        "include=[ab]*.txt",
        "--config",
        f"exclude={json.dumps(['x', 'y'])}",
    )
    ok(
        command(
            running,
            server,
            "connect",
            "folder",
            "-c",
            "lists",
            "--config",
            f"path={place}",
            *globs,
            "--config",
            "max_file_mb=1.5",
            "--config",
            "gitignore=no",
        )
    )
    [one] = connected(server, "lists")
    config = server.get(f"/source-connections/{one['id']}")["config"]
    assert (config["include"], config["exclude"]) == (["*.md", "[ab]*.txt"], ["x", "y"])
    assert (config["max_file_mb"], config["gitignore"]) == (1.5, False)
