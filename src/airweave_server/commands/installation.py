"""The commands that work on the database of a data directory or of ``DATABASE_URL``; they need no server."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Column, Table

from .. import installation
from ..db import backup as archives
from ..db import collections, embedded, keys
from ..errors import Unstartable
from ..services import backup as backups
from .common import DataDir, err, out, read_settings, say, show

app = typer.Typer(rich_markup_mode=None)
keys_app = typer.Typer(no_args_is_help=True, help="API keys, for a server with AUTH_ENABLED=true.")
app.add_typer(keys_app, name="keys")


@app.command()
def migrate(
    data_dir: DataDir = None,
    postgres: Annotated[
        bool, typer.Option("--postgres", help="Move the embedded data to the new major version.")
    ] = False,
) -> None:
    """Bring the schema up to date, or with --postgres the embedded data to a newer Postgres; the old data is kept."""
    settings = read_settings(data_dir=data_dir)
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
    settings = read_settings(data_dir=data_dir)
    with installation.any_database(settings, say=say) as database:
        for line in backups.write(database, settings, file.absolute(), with_key=with_key, overwrite=force):
            say(line)


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
    settings = read_settings(data_dir=data_dir)
    with (
        archives.open_archive(file.absolute()) as archive,
        installation.any_database(settings, say=say, alone=True) as database,
    ):
        for line in backups.restore(database, settings, archive, replace=replace, this_host=this_host):
            say(line)


@app.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    with_key: Annotated[bool, typer.Option("--with-key", help="Remove the vault key too.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Remove everything that is held: collections, connections, jobs, API keys. The vault key stays."""
    settings = read_settings(data_dir=data_dir)
    what = installation.describe_data(settings) + (" and the vault key" if with_key else "")
    if not yes and not sys.stdin.isatty():
        raise Unstartable(f"this would remove {what} for good: say so with --yes")
    if not yes:
        typer.confirm(f"This removes {what} for good. Go on?", abort=True)
    installation.reset(settings, with_key=with_key)
    say(f"Removed {what}.")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False, data_dir: DataDir = None
) -> None:
    """Say which database this is, how full it is, and what needs doing; exit 1 when something does."""
    from ..services import doctor as service

    settings = read_settings(data_dir=data_dir)
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
            show(f"[yellow]![/] {escape(finding.what)}")
            show(f"  [bold]→[/] {escape(finding.do)}")
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
    from ..services import audit as auditing
    from ..sync.connector import Connectors

    settings = read_settings(data_dir=data_dir)
    all_right, asked = True, False
    with installation.open_database(installation.database_url(settings)) as database:
        database.migrate()
        request = auditing.AuditRequest(
            every_chunk=every_chunk,
            connectors=Connectors(database, installation.open_vault(settings), settings) if source else None,
            named=connection is not None,
            repair=repair,
        )
        found = auditing.named(database, connection)
        if connection is not None and not found:
            raise Unstartable(f"there is no connection {connection!r}; airweave-server status lists them")
        for one in found:
            looked = auditing.look(database, one, request)
            _show_audited(looked)
            all_right, asked = all_right and looked.is_right, asked or looked.asked
        leftovers = auditing.look_for_leftovers(database, request) if connection is None else None
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
    with installation.open_database(installation.database_url(read_settings(data_dir=data_dir))) as database:
        database.migrate()
        with database.session() as session:
            key, plain = keys.create(session, collections.organization(session).id, name=name, days=days)
    err.print(f"key {key.id}, until {key.expires_at:%Y-%m-%d}; it is shown this once:", soft_wrap=True)
    print(plain)  # noqa: T201 - the one thing that goes to standard output, so that $(...) takes it


@keys_app.command("list")
def keys_list(data_dir: DataDir = None) -> None:
    """List the keys; what they open is not stored, only their last characters."""
    with (
        installation.open_database(installation.database_url(read_settings(data_dir=data_dir))) as database,
        database.session() as session,
    ):
        found = keys.list_all(session, collections.organization(session).id)
    for key in found:
        moments = {
            "made": key.created_at,
            "expires": key.expires_at,
            "used": key.last_used_at,
            "revoked": key.revoked_at,
        }
        shown = ", ".join(f"{word} {at:%Y-%m-%d %H:%M}" for word, at in moments.items() if at)
        show(f"{key.id}  …{key.hint}  {escape(key.name)}  {shown}")


@keys_app.command("revoke")
def keys_revoke(key_id: str, data_dir: DataDir = None) -> None:
    """Revoke a key, at once."""
    try:
        key_uuid = UUID(key_id)
    except ValueError:
        raise Unstartable(f"{key_id!r} is no key id; airweave-server keys list shows them") from None
    with (
        installation.open_database(installation.database_url(read_settings(data_dir=data_dir))) as database,
        database.session() as session,
    ):
        if not keys.revoke(session, collections.organization(session).id, key_uuid):
            raise Unstartable(f"there is no key {key_uuid} that still holds; airweave-server keys list shows them")
    out.print(f"Revoked {key_uuid}.")


def _show_audited(looked: Any) -> None:
    report = looked.report
    counted = f"{report.entities:,} entities, {report.chunks:,} chunks, {report.looked_up:,} of them looked up"
    show(f"{'[red]wrong[/]' if looked.found else 'right'}  [bold]{escape(looked.title)}[/]: {counted}")
    for line in looked.notes:
        show(f"       {escape(line)}")
    for line in looked.found:
        show(f"       [red]{escape(line)}[/]")
    for line in looked.mended:
        show(f"       mended: {escape(line)}")
    if looked.asked:
        show("       a repair is asked for, which reads afresh what is damaged")


def _show_facts(facts: dict[str, str]) -> None:
    for label, value in facts.items():
        show(f"{label:<12}{escape(value)}")


def _show_uses(uses: list[Any]) -> None:
    if uses:
        table = Table(
            "collection",
            *(Column(name, justify="right") for name in ("connections", "entities", "chunks")),
            Column("about", justify="right"),
            "vectors",
        )
        for use in uses:
            name = f"{use.readable_id} (deleted, being removed)" if use.is_leaving else use.readable_id
            counts = (f"{count:,}" for count in (use.connections, use.entities, use.chunks))
            table.add_row(name, *counts, decimal(use.size_bytes), use.vectors)
        out.print(table)
