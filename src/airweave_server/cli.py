"""The command ``airweave-server``: starting servers, and talking to one without curl."""

import gc
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from . import log
from .client import Client, ClientError
from .errors import Unstartable
from .settings import Settings
from .version import __version__

POLL_S = 0.2
PACE_S = 30.0  # of the last so many seconds the pace is told
PASSAGE_CHARS = 240

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
keys_app = typer.Typer(no_args_is_help=True, help="API keys, for a server with AUTH_ENABLED=true.")
app.add_typer(keys_app, name="keys")
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", envvar="AIRWEAVE_DATA_DIR", help="Where the embedded Postgres lives.")
]
Host = Annotated[
    str | None, typer.Option("--host", envvar="API_HOST", help="Address to listen on. [default: 127.0.0.1]")
]
Port = Annotated[
    int | None, typer.Option("--port", envvar="API_PORT", help="Port to listen on; 0 is any. [default: 8001]")
]
WithParent = Annotated[bool, typer.Option("--with-parent", hidden=True, help="End when standard input is closed.")]
Folder = Annotated[Path, typer.Argument(help="The folder to connect.")]
Include = Annotated[list[str] | None, typer.Option(help="Glob of files to take; may be given again.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Glob of files to leave; may be given again.")]
CollectionOf = Annotated[str, typer.Option("--collection", "-c", help="The collection's readable id.")]


def main() -> None:
    """The entry point: one clear line and exit 1 for whatever a person can mend."""
    code: str | int | None = 0
    try:
        app()
    except SystemExit as left:
        code = left.code
    except (Unstartable, ClientError) as error:
        err.print(f"[bold red]airweave-server:[/] {escape(str(error))}", soft_wrap=True)
        code = 1
    # not the ordinary way out: native threads, as Temporal's and the tokenizer's, can abort an interpreter on it
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


@contextmanager
def _loading() -> Iterator[None]:
    """For imports that take long: nothing of what they make is garbage, and looking for it takes a tenth of them."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def _version(is_asked: bool) -> None:
    if is_asked:
        out.print(f"airweave-server {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Say which version this is, and end.")
    ] = False,
) -> None:
    """Keeps the knowledge of AI agents fresh: syncs sources into collections that agents search."""


@app.command()
def up(
    host: Host = None, port: Port = None, data_dir: DataDir = None,
    temporal: Annotated[
        bool, typer.Option("--temporal", help="Start the Temporal dev server too, and let it drive jobs.")
    ] = False,
) -> None:  # fmt: skip
    """Run the server in the foreground, with an embedded Postgres unless DATABASE_URL is set, and a worker where
    TEMPORAL_ENABLED=true."""
    with _loading():
        from . import supervisor  # the slow part of starting: only the commands that need it load it

    settings = _settings(api_host=host, api_port=port, data_dir=data_dir)
    supervisor.up(settings, say=_say, with_temporal=temporal)


@app.command()
def api(host: Host = None, port: Port = None, data_dir: DataDir = None) -> None:
    """Run one more API process on DATABASE_URL, or on the embedded Postgres of a server that is up."""
    with _loading():
        from . import supervisor

    settings = _settings(api_host=host, api_port=port, data_dir=data_dir)
    supervisor.api(settings, say=_say)


@app.command()
def worker(data_dir: DataDir = None, with_parent: WithParent = False) -> None:
    """Run one more worker: takes steps of the jobs that Temporal drives, wherever it reaches Postgres and Temporal."""
    with _loading():
        from . import children
        from .temporal import worker as of_temporal

    settings = _settings(data_dir=data_dir)
    if with_parent:
        children.end_with_parent()
    of_temporal.run(settings)


@app.command()
def temporal(data_dir: DataDir = None, with_parent: WithParent = False) -> None:
    """Run the Temporal dev server in the foreground, its database in the data directory, with its UI."""
    from . import children, devserver

    settings = _settings(data_dir=data_dir)
    if with_parent:
        children.end_with_parent()
    else:
        place = f"{devserver.IP}:{settings.temporal_port}"
        _say(f"Temporal  {place}  (UI at http://localhost:{settings.temporal_ui_port})")
    sys.exit(devserver.run(settings))


@app.command()
def migrate(
    data_dir: DataDir = None,
    postgres: Annotated[
        bool, typer.Option("--postgres", help="Move the embedded data to the new major version.")
    ] = False,
) -> None:
    """Bring the schema up to date, or with --postgres the embedded data to a newer Postgres; the old data is kept."""
    from . import installation
    from .db import embedded

    settings = _settings(data_dir=data_dir)
    if postgres:
        kept = embedded.upgrade(settings.place())
        out.print(f"The data was moved; the old one is kept in {kept}")
        return
    with installation.open_database(installation.database_url(settings)) as database:
        database.migrate()
    out.print("The schema is up to date.")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    with_key: Annotated[bool, typer.Option("--with-key", help="Put the vault key into it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Write everything to one file, as of one moment, whether or not a server is up."""
    from . import installation
    from .services import backup as service

    settings = _settings(data_dir=data_dir)
    with installation.any_database(settings, say=_say) as database:
        for line in service.write(database, settings, file.absolute(), with_key=with_key, overwrite=force):
            _say(line)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that backup wrote.")],
    replace: Annotated[bool, typer.Option("--replace", help="Give up what the database holds now.")] = False,
    this_host: Annotated[
        bool, typer.Option("--this-host", help="Read on this host what was read where it lies on another.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Bring back what a backup holds, into a database that no server uses."""
    from . import installation
    from .db import backup as archives
    from .services import backup as service

    settings = _settings(data_dir=data_dir)
    with (
        archives.opened(file.absolute()) as archive,
        installation.any_database(settings, say=_say, alone=True) as database,
    ):
        for line in service.restore(database, settings, archive, replace=replace, this_host=this_host):
            _say(line)


@app.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    with_key: Annotated[bool, typer.Option("--with-key", help="Remove the vault key too.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Remove everything that is held: collections, connections, jobs, API keys. The vault key stays."""
    from . import installation

    settings = _settings(data_dir=data_dir)
    what = installation.what_is_held(settings) + (" and the vault key" if with_key else "")
    if not yes and not sys.stdin.isatty():
        raise Unstartable(f"this would remove {what} for good: say so with --yes")
    if not yes:
        typer.confirm(f"This removes {what} for good. Go on?", abort=True)
    installation.reset(settings, with_key=with_key)
    _say(f"Removed {what}.")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False, data_dir: DataDir = None
) -> None:
    """Say which database this is, how full it is, and what needs doing; exit 1 when something does."""
    from . import installation
    from .db import embedded
    from .services import doctor as service

    settings = _settings(data_dir=data_dir)
    facts = embedded.describe(settings.place()) if settings.database_url is None else {}
    if not as_json:
        _show_facts(facts)
    try:
        with installation.open_database(installation.database_url(settings)) as database:
            report = service.examine(database, settings)
    except Unstartable as error:
        if not as_json:
            raise
        what, _, do = str(error).partition("; ")
        report = service.Report({}, [], [service.Finding(what, do)])
    if as_json:
        report.facts.update(facts)
        out.print_json(data={"ok": not report.findings, **asdict(report)})
    else:
        _show_facts(report.facts)
        _show_uses(report.collections)
        for finding in report.findings:
            _line(f"[yellow]![/] {escape(finding.what)}")
            _line(f"  [bold]→[/] {escape(finding.do)}")
        if not report.findings:
            out.print("Nothing needs doing.")
    if report.findings:
        raise typer.Exit(1)


@app.command()
def audit(
    connection: Annotated[str | None, typer.Argument(help="A connection's id or name. [default: all]")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is found.")] = False,
    source: Annotated[bool, typer.Option("--source", help="List the source too, and compare.")] = False,
    every_chunk: Annotated[bool, typer.Option("--all", help="Look up every chunk, not a sample.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Prove that what the ledger declares is stored and found by search; say what is not. Exit 1 when something is
    wrong and not mended."""
    from . import installation
    from .services import audit as auditing
    from .sync.sync_service import SyncService

    settings = _settings(data_dir=data_dir)
    all_right, asked = True, False
    with installation.open_database(installation.database_url(settings)) as database:
        database.migrate()
        wanted = auditing.Wanted(
            every_chunk=every_chunk, source=SyncService(
                database, installation.open_vault(settings), settings, hidden_paths=(settings.place(),)
            ) if source else None,
            named=connection is not None, repair=repair,
        )  # fmt: skip
        found = auditing.named(database, connection)
        if connection is not None and not found:
            raise Unstartable(f"there is no connection {connection!r}; airweave-server status lists them")
        for one in found:
            looked = auditing.look(database, one, wanted)
            _show_audited(looked)
            all_right, asked = all_right and looked.is_right, asked or looked.asked
        leftovers = auditing.look_for_leftovers(database, wanted) if connection is None else None
        if leftovers is not None:
            _show_audited(leftovers)
            all_right = all_right and leftovers.is_right
        if asked and not auditing.is_kept(database):
            out.print("No server is up: what is to be read afresh is read when one is.")
    raise typer.Exit(0 if all_right else 1)


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    days: Annotated[int, typer.Option(min=1, max=365, help="Days until it expires.")] = 90,
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it, once."""
    from . import installation
    from .db import collections, keys

    with installation.open_database(installation.database_url(_settings(data_dir=data_dir))) as database:
        database.migrate()
        with database.session() as session:
            key, plain = keys.create(session, collections.organization(session).id, name=name, days=days)
    err.print(f"key {key.id}, until {key.expires_at:%Y-%m-%d}; it is shown this once:", soft_wrap=True)
    print(plain)  # noqa: T201 - the one thing that goes to standard output, so that $(...) takes it


@keys_app.command("list")
def keys_list(data_dir: DataDir = None) -> None:
    """List the keys; what they open is not stored, only their last characters."""
    from . import installation
    from .db import collections, keys

    with (
        installation.open_database(installation.database_url(_settings(data_dir=data_dir))) as database,
        database.session() as session,
    ):
        found = keys.listed(session, collections.organization(session).id)
    for key in found:
        moments = {
            "made": key.created_at,
            "expires": key.expires_at,
            "used": key.last_used_at,
            "revoked": key.revoked_at,
        }
        shown = ", ".join(f"{word} {at:%Y-%m-%d %H:%M}" for word, at in moments.items() if at)
        _line(f"{key.id}  …{key.hint}  {escape(key.name)}  {shown}")


@keys_app.command("revoke")
def keys_revoke(key_id: str, data_dir: DataDir = None) -> None:
    """Revoke a key, at once."""
    from uuid import UUID

    from . import installation
    from .db import collections, keys

    try:
        wanted = UUID(key_id)
    except ValueError:
        raise Unstartable(f"{key_id!r} is no key id; airweave-server keys list shows them") from None
    with (
        installation.open_database(installation.database_url(_settings(data_dir=data_dir))) as database,
        database.session() as session,
    ):
        if not keys.revoke(session, collections.organization(session).id, wanted):
            raise Unstartable(f"there is no key {wanted} that still holds; airweave-server keys list shows them")
    out.print(f"Revoked {wanted}.")


@app.command()
def preview(
    folder: Folder, collection: CollectionOf = "default", include: Include = None, exclude: Exclude = None
) -> None:
    """Say what a first sync of a folder would read, make and leave out, and how long it would take; stores nothing."""
    with _client() as client:
        found = client.preview_folder(collection, _folder(folder, include, exclude))
    _line(escape(_expected(found)))
    for verb in ("skipped", "failed"):
        for each in found[verb]:
            about = "" if each["is_exact"] else "about "
            more = ", …" if each["entities"] > len(each["examples"]) else ""
            examples = escape(", ".join(each["examples"]) + more)
            _line(f"  {verb}  {about}{each['entities']:,}  {escape(each['reason'])}: {examples}")
    for note in found["notes"]:
        _line(f"  {escape(note)}")


@app.command()
def add(
    folder: Folder,
    collection: CollectionOf = "default",
    name: Annotated[str | None, typer.Option(help="The connection's name. [default: the folder's]")] = None,
    include: Include = None,
    exclude: Exclude = None,
    language: Annotated[
        str | None, typer.Option(help="Language of the collection's texts, if it is made. [default: english]")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the first sync.")] = True,
) -> None:
    """Connect a folder to a collection (made if it is not there) and sync it."""
    with _client() as client:
        client.ensure_collection(collection, language=language)
        config = _folder(folder, include, exclude)
        expected = None
        if wait:
            with suppress(ClientError):  # it is only a help; what is wrong with the folder the next request says
                found = client.preview_folder(collection, config)
                expected = found["entities"] if found["is_complete"] else None
                _line(escape(_expected(found)))
        path = config["path"]
        connection = client.connect_folder(collection, config, name=name or _fitting(Path(path).name))
        out.print(f"Connected {escape(path)} to {collection} as {connection['id']}", soft_wrap=True)
        job = client.run(connection["id"])
        if wait:
            _follow(client, connection, job, expected=expected)


@app.command()
def sync(
    connection: Annotated[str | None, typer.Argument(help="A connection's id or name. [default: all]")] = None,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Only this collection's.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Read everything afresh.")] = False,
) -> None:
    """Sync connections and show what was done."""
    with _client() as client:
        found = client.connections(collection)
        if connection is not None:
            found = [item for item in found if connection in (item["id"], item["name"])]
        if not found:
            raise ClientError("there is no such connection; airweave-server status lists them, add makes one")
        for item in found:
            out.print(f"[bold]{escape(item['name'])}[/] in {item['readable_collection_id']}")
            before = client.last_full(item["id"])
            expected = before["entities_encountered"] if before else None
            _follow(client, item, client.run_or_join(item["id"], full=full), expected=expected)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    collection: CollectionOf = "default",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 5,
) -> None:
    """Search a collection and show the passages that match."""
    with _client() as client:
        hits = client.search(collection, query, limit=limit)
    if not hits:
        out.print("Nothing found.")
    for number, hit in enumerate(hits, start=1):
        place = hit["airweave_system_metadata"]["original_entity_id"]
        out.print(f"[bold]{number}. {escape(place)}[/]  {hit['relevance_score']:.3f}", soft_wrap=True)
        out.print(f"   {escape(_passage(hit['textual_representation']))}", soft_wrap=True)


@app.command()
def reembed(
    collection: Annotated[str, typer.Argument(help="The collection to move.")],
    to: Annotated[str | None, typer.Option("--to", help="The embedder it is to have.")] = None,
    abandon: Annotated[bool, typer.Option("--abandon", help="Give the move up that is under way.")] = False,
) -> None:
    """Move a collection to another embedder, or go on with a move; it is searched as before until all is done. Exit 1
    when it does not come to its end."""
    with _client() as client:
        path = f"/collections/{collection}/reembed"
        if abandon:
            seen = client.delete(path)
            out.print(f"{collection} stays with {escape(seen['embedder'])} ({escape(seen['embedding_model_name'])}).")
            return
        if to is None:
            raise ClientError("name the embedder with --to, or give a move up with --abandon")
        seen = client.post(path, {"embedder": to})
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
            bar = progress.add_task(f"to {to}")
            while seen["state"] == "moving":
                progress.update(bar, total=seen["entities_total"], completed=seen["entities_done"])
                if lost := [job for job in seen["jobs"] if job["status"] in ("failed", "cancelled")]:
                    why = "; ".join(f"{job['status']}: {job['error'] or 'as asked'}" for job in lost)
                    raise ClientError(f"it did not come to its end ({why}); the same command goes on")
                time.sleep(POLL_S)
                seen = client.get(path)
        out.print(f"{collection} has {escape(seen['embedder'])} now ({escape(seen['embedding_model_name'])}).")


@app.command()
def status() -> None:
    """Show the server's health, its connections and their last sync."""
    with _client() as client:
        health = client.get("/health")
        out.print(f"{client.url} is {health['status']}; engine {health['engine']}, database {health['database']}")
        for item in client.connections(None):
            job = next(iter(client.jobs(item["id"], limit=1)), None)
            held = f", [yellow]{job['held_deletes']} deletes held[/]" if job and job["held_deletes"] else ""
            _line(
                f"[bold]{escape(item['name'])}[/] in {item['readable_collection_id']}: {item['short_name']}, "
                f"{item['status']}, {item['entity_count']:,} entities{held}"
            )
            _line(f"  id         {item['id']}")
            _line("  last sync  " + (f"{job['status']}: {_counts(job)}" if job else "never"))


@app.command()
def sources() -> None:
    """List the sources that are installed here, with their configuration."""
    from . import plugins

    settings = _settings()
    table = Table("name", "title", "what it reads", "configuration")
    for kind in plugins.sources().values():
        if not kind.internal or settings.enable_internal_sources:
            fields = (f"{name}{'' if f.is_required() else '?'}" for name, f in kind.config_model.model_fields.items())
            table.add_row(kind.name, kind.title, kind.description, ", ".join(fields))
    out.print(table)


@app.command()
def demo(
    durable: Annotated[
        bool, typer.Option("--durable", help="Kill worker, Temporal and Postgres in the middle of a sync instead.")
    ] = False,
) -> None:
    """Show the whole thing in a throw-away server: sync two real folders, search, change, sync again."""
    from . import demo as show
    from . import demo_durable

    if durable:
        demo_durable.run(out)
    else:
        show.run(out)


def _settings(**given: Any) -> Settings:
    try:
        settings = Settings(**{key: value for key, value in given.items() if value is not None})
    except ValidationError as error:  # its own text would show the value, which may be a secret
        first = error.errors(include_input=False, include_url=False)[0]
        raise Unstartable(f"{str(first['loc'][0]).upper()}: {first['msg']}") from None
    log.configure(level=settings.log_level, style=settings.log_format, to=settings.log_to)
    return settings


def _client() -> Client:
    return Client.from_settings(_settings())


def _say(line: str) -> None:
    out.print(escape(line), soft_wrap=True)


def _show_audited(looked: Any) -> None:
    report = looked.report
    counted = f"{report.entities:,} entities, {report.chunks:,} chunks, {report.looked_up:,} of them looked up"
    _line(f"{'[red]wrong[/]' if looked.found else 'right'}  [bold]{escape(looked.title)}[/]: {counted}")
    for line in looked.notes:
        _line(f"       {escape(line)}")
    for line in looked.found:
        _line(f"       [red]{escape(line)}[/]")
    for line in looked.mended:
        _line(f"       mended: {escape(line)}")
    if looked.asked:
        _line("       a repair is asked for, which reads afresh what is damaged")


def _line(text: str) -> None:
    """A line of markup that stays one, however narrow the terminal is: ids are there to be copied."""
    out.print(text, soft_wrap=True)


def _follow(client: Client, connection: dict[str, Any], job: dict[str, Any], *, expected: int | None) -> None:
    """Show a job's progress until its end; a job that failed ends the command with exit 1. ``expected``: how many
    entities a full listing meets, where that is known."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("pending", total=None, pace="")
        pace = _Pace()
        while job["status"] in ("pending", "running", "cancelling"):
            doing = job["phase"] if job["status"] == "running" else job["status"]
            if job["waiting_for"]:
                doing += f", waiting for {job['waiting_for']}"
            seen = job["entities_encountered"]
            total = max(expected, seen) if expected and job["mode"] == "full" else None  # of changes nobody knows
            progress.update(
                task,
                description=doing,
                completed=seen,
                total=total,
                pace=pace.shown(seen, total, at_s=time.monotonic()),
            )
            time.sleep(POLL_S)
            job = client.job(connection["id"], job["id"])
    out.print(f"{job['status']}: {_counts(job)}", soft_wrap=True)
    if job["held_deletes"]:
        out.print(
            f"[yellow]Held deletes: {job['held_deletes']}[/]: see {client.url}/source-connections/"
            f"{connection['id']}/held-deletes, and POST …/approve or …/dismiss there", soft_wrap=True,
        )  # fmt: skip
    if job["status"] == "failed":
        raise ClientError(f"the sync failed: {job['error']}")


class _Pace:
    """How fast entities are met of late, and how long the others will take at that pace."""

    def __init__(self) -> None:
        self._met: deque[tuple[float, int]] = deque()

    def shown(self, seen: int, total: int | None, *, at_s: float) -> str:
        self._met.append((at_s, seen))
        while at_s - self._met[0][0] > PACE_S:
            self._met.popleft()
        since_s, before = self._met[0]
        if seen == before:
            return ""
        per_s = (seen - before) / (at_s - since_s)
        left = f", {_duration((total - seen) / per_s)} left" if total is not None and seen < total else ""
        return f"{per_s:,.0f}/s{left}"


def _expected(preview: dict[str, Any]) -> str:
    least, about = "" if preview["is_complete"] else "at least ", "" if preview["is_exact"] else "about "
    took = f", in about {_duration(preview['seconds'])}" if preview["seconds"] is not None else ""
    return (
        f"{least}{preview['entities']:,} files, {decimal(preview['size_bytes'])}; {about}{preview['chunks']:,} chunks "
        f"of {preview['indexed']:,} of them with {preview['embedding_model_name']}{took}"
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:.1f} h"


def _folder(folder: Path, include: list[str] | None, exclude: list[str] | None) -> dict[str, Any]:
    globs = {key: value for key, value in (("include", include), ("exclude", exclude)) if value}
    return {"path": str(folder.expanduser().absolute()), **globs}


def _counts(job: dict[str, Any]) -> str:
    names = ("inserted", "updated", "deleted", "kept", "skipped", "failed")
    shown = ", ".join(f"{job[f'entities_{name}']:,} {name}" for name in names)
    duration_s = job["duration_seconds"] or 0.0
    rate = f", {job['entities_encountered'] / duration_s:,.0f} docs/s" if duration_s > 0 else ""
    return f"{shown} in {duration_s:.1f} s{rate}"


def _show_facts(facts: dict[str, str]) -> None:
    for label, value in facts.items():
        _line(f"{label:<12}{escape(value)}")


def _show_uses(uses: list[Any]) -> None:
    if uses:
        table = Table("collection", *(Column(name, justify="right") for name in ("connections", "entities", "chunks")),
                      Column("about", justify="right"), "vectors")  # fmt: skip
        for use in uses:
            name = f"{use.readable_id} (deleted, being removed)" if use.is_leaving else use.readable_id
            counts = (f"{count:,}" for count in (use.connections, use.entities, use.chunks))
            table.add_row(name, *counts, decimal(use.size_bytes), use.vectors)
        out.print(table)


def _passage(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= PASSAGE_CHARS else flat[: PASSAGE_CHARS - 1] + "…"


def _fitting(name: str) -> str:
    """A name of 4 to 42 characters, as the API wants it."""
    name = name[:42]
    return name if len(name) >= 4 else f"Folder {name}"
