"""The commands that work directly on the database of a data directory or ``DATABASE_URL``, without a server."""

import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.filesize import decimal
from rich.table import Column

from .. import installation
from ..db import backup as archives
from ..db import collections, embedded, keys, organizations
from ..db.models import Role
from ..errors import Unstartable
from ..services import backup as backups
from ..wire import find_text_flaw
from .common import DataDir, confirm, inline, note, print_result, read_settings, say, show, show_json, show_table

app = typer.Typer(rich_markup_mode=None)
keys_app = typer.Typer(no_args_is_help=True, help="Manage API keys, for a server with AUTH_ENABLED=true.")
app.add_typer(keys_app, name="keys")
organizations_app = typer.Typer(
    no_args_is_help=True, help="Manage organizations, which see nothing of each other, for AUTH_ENABLED=true."
)
app.add_typer(organizations_app, name="organizations")


@app.command()
def migrate(
    data_dir: DataDir = None,
    postgres: Annotated[
        bool, typer.Option("--postgres", help="Move the embedded data to a newer major version of Postgres.")
    ] = False,
) -> None:
    """Update the schema or, with --postgres, move the embedded data to a newer Postgres and keep the old data."""
    settings = read_settings(data_dir=data_dir)
    if postgres:
        kept = embedded.upgrade(settings.place())
        say(f"The data was moved; the old data is kept in {kept}")
        return
    with installation.open_database(installation.database_url(settings)) as database:
        database.migrate()
    say("The schema is up to date.")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    with_key: Annotated[bool, typer.Option("--with-key", help="Include the vault key.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Write a consistent backup of everything to one file. A server may be running."""
    settings = read_settings(data_dir=data_dir)
    with installation.any_database(settings, say=say) as database:
        for line in backups.write(database, settings, file.absolute(), with_key=with_key, overwrite=force):
            say(line)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that backup wrote.")],
    replace: Annotated[bool, typer.Option("--replace", help="Discard what the database holds now.")] = False,
    this_host: Annotated[
        bool, typer.Option("--this-host", help="Read local sources on this host from now on, not on their old host.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Restore a backup into a database that no server uses."""
    settings = read_settings(data_dir=data_dir)
    with (
        archives.open_archive(file.absolute()) as archive,
        installation.any_database(settings, say=say, alone=True) as database,
    ):
        for line in backups.restore(database, settings, archive, replace=replace, this_host=this_host):
            say(line)


@app.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    with_key: Annotated[bool, typer.Option("--with-key", help="Delete the vault key too.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Delete all collections, connections, jobs and API keys. The vault key stays."""
    settings = read_settings(data_dir=data_dir)
    what = installation.describe_data(settings) + (" and the vault key" if with_key else "")
    if not yes and not sys.stdin.isatty():
        raise Unstartable(f"this would permanently delete {what}; confirm with --yes")
    if not yes:
        confirm(f"This permanently deletes {what}. Continue?", abort=True)
    installation.reset(settings, with_key=with_key)
    say(f"Deleted {what}.")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False, data_dir: DataDir = None
) -> None:
    """Show which database this is, how full it is, and what needs attention. Exit 1 if anything does."""
    from ..services import doctor as service

    settings = read_settings(data_dir=data_dir)
    facts = embedded.describe(settings.place()) if settings.database_url is None else {}
    if not as_json:
        _show_facts(facts)
    try:
        url, room = installation.database_url(settings), installation.room_of(settings)
        with installation.open_database(url, room) as database:
            report = service.examine(database, settings)
    except Unstartable as error:
        if not as_json:
            raise
        what, _, do = str(error).partition("; ")
        report = service.Report({}, [], [service.Finding(what, do)])
    if as_json:
        report.facts.update(facts)
        show_json({"ok": not report.findings, **asdict(report)})
    else:
        _show_facts(report.facts)
        _show_uses(report.collections)
        for finding in report.findings:
            show(f"[yellow]![/] {inline(finding.what)}")
            show(f"  [bold]→[/] {inline(finding.do)}")
        if not report.findings:
            say("Nothing needs attention.")
    if report.findings:
        raise typer.Exit(1)


@app.command()
def audit(
    connection: Annotated[str | None, typer.Argument(help="A connection's id or name. [default: all]")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Repair what is wrong.")] = False,
    source: Annotated[bool, typer.Option("--source", help="Also list the source, and compare.")] = False,
    content: Annotated[bool, typer.Option("--content", help="With --source: also read the content there.")] = False,
    every_chunk: Annotated[bool, typer.Option("--all", help="Look up every chunk, not a sample.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Check that everything the ledger declares is stored and found by search, and show what is not. Exit 1 if anything
    is wrong and not repaired."""
    from ..services import audit as auditing
    from ..sync.connector import Connectors
    from ..text.parsers import Parsers
    from ..text.reading import Reader

    if content and not source:
        raise Unstartable("--content reads the content at the source; add --source")
    settings = read_settings(data_dir=data_dir)
    all_right, asked = True, False
    parsers = Parsers(
        seconds=settings.parse_s, memory_mb=settings.parse_memory_mb, ocr_languages=settings.languages_for_ocr()
    )
    with installation.open_database(installation.database_url(settings)) as database, closing(parsers):
        database.migrate()
        request = auditing.AuditRequest(
            every_chunk=every_chunk,
            connectors=Connectors(database, installation.open_vault(settings), settings) if source else None,
            reader=Reader(parsers) if content else None,
            named=connection is not None,
            repair=repair,
        )
        found = auditing.find_connections(database, connection)
        if connection is not None and not found:
            raise Unstartable(f"there is no connection {connection!r}; airweave-server status lists them")
        for one in found:
            audited = auditing.audit_connection(database, one, request)
            _show_audited(audited)
            all_right, asked = all_right and audited.is_right, asked or audited.asked
        leftovers = auditing.audit_leftovers(database, request) if connection is None else None
        if leftovers is not None:
            _show_audited(leftovers)
            all_right = all_right and leftovers.is_right
        if asked and not auditing.has_keeper(database):
            say("No server is up: the requested repairs start when one is.")
    raise typer.Exit(0 if all_right else 1)


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    days: Annotated[int, typer.Option(min=1, max=365, help="Days until it expires.")] = 90,
    role: Annotated[
        Role, typer.Option(help="reader: search and read; editor: also connect and run; admin: everything.")
    ] = Role.ADMIN,
    organization: Annotated[
        str | None, typer.Option(help="The name or id of its organization. [default: the first one]")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Create a key and print it once."""
    with installation.open_database(installation.database_url(read_settings(data_dir=data_dir))) as database:
        database.migrate()
        with database.session() as session:
            owner = organizations.require(session, organization)
            key, plain = keys.create(session, owner.id, name=name, days=days, role=role)
            owned = f"{role} of {owner.name}"
    note(f"key {key.id}, {owned}, expires {key.expires_at:%Y-%m-%d}; it is shown only once:")
    print_result(plain)  # the only line on standard output


@keys_app.command("list")
def keys_list(data_dir: DataDir = None) -> None:
    """List the keys of all organizations. Keys themselves are not stored, only their last characters."""
    with (
        installation.open_database(installation.database_url(read_settings(data_dir=data_dir))) as database,
        database.session() as session,
    ):
        found = keys.list_all(session)
        names = {owner.id: owner.name for owner in organizations.list_all(session)}
    for key in found:
        moments = {
            "created": key.created_at,
            "expires": key.expires_at,
            "used": key.last_used_at,
            "revoked": key.revoked_at,
        }
        shown = ", ".join(f"{word} {at:%Y-%m-%d %H:%M}" for word, at in moments.items() if at)
        owner = inline(names[key.organization_id])
        show(f"{key.id}  …{key.hint}  {key.role:<6}  {owner}  {inline(key.name)}  {shown}")


@keys_app.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, from keys list.")], data_dir: DataDir = None
) -> None:
    """Revoke a key immediately."""
    try:
        key_uuid = UUID(key_id)
    except ValueError:
        raise Unstartable(f"{key_id!r} is not a key id; airweave-server keys list shows them") from None
    with (
        installation.open_database(installation.database_url(read_settings(data_dir=data_dir))) as database,
        database.session() as session,
    ):
        if not keys.revoke(session, None, key_uuid):
            raise Unstartable(f"there is no valid key {key_uuid}; airweave-server keys list shows all keys")
    say(f"Revoked {key_uuid}.")


@organizations_app.command("create")
def organizations_create(
    name: Annotated[str, typer.Argument(help="Its name, of 4 to 100 characters, which no other has.")],
    data_dir: DataDir = None,
) -> None:
    """Create an organization and print its id."""
    name = name.strip()
    if not organizations.LEAST_CHARS <= len(name) <= organizations.MOST_CHARS or find_text_flaw(name) is not None:
        raise Unstartable(
            f"a name has {organizations.LEAST_CHARS} to {organizations.MOST_CHARS} characters, and no NUL among them"
        )
    with installation.open_database(installation.database_url(read_settings(data_dir=data_dir))) as database:
        database.migrate()
        with database.session() as session:
            made = organizations.create(session, name)
            if made is None:
                raise Unstartable(f"there is an organization {name!r} already; airweave-server organizations list")
    note(f"organization {name}; create a key for it with airweave-server keys create --organization {made.id}")
    print_result(str(made.id))  # the only line on standard output


@organizations_app.command("list")
def organizations_list(data_dir: DataDir = None) -> None:
    """List the organizations. The first one is that of a server without authentication, and has the local folders."""
    with installation.open_database(installation.database_url(read_settings(data_dir=data_dir))) as database:
        database.migrate()
        with database.session() as session:
            collections.organization(session)
            found = organizations.list_all(session)
    for each in found:
        first = ", the first" if each.is_first else ""
        show(f"{each.id}  {inline(each.name)}  created {each.created_at:%Y-%m-%d %H:%M}{first}")


def _show_audited(audited: Any) -> None:
    report = audited.report
    counts = f"{report.entities:,} entities, {report.chunks:,} chunks, {report.looked_up:,} of them looked up"
    show(f"{'[red]wrong[/]' if audited.found else 'right'}  [bold]{inline(audited.title)}[/]: {counts}")
    for line in audited.notes:
        show(f"       {inline(line)}")
    for line in audited.found:
        show(f"       [red]{inline(line)}[/]")
    for line in audited.repaired:
        show(f"       repaired: {inline(line)}")
    if audited.asked:
        show("       requested a repair job, which reads damaged entities again")


def _show_facts(facts: dict[str, str]) -> None:
    for label, value in facts.items():
        show(f"{inline(label):<12}{inline(value)}")


def _show_uses(uses: list[Any]) -> None:
    columns: tuple[str | Column, ...] = (
        "collection",
        *(Column(name, justify="right") for name in ("connections", "entities", "chunks")),
        Column("about", justify="right"),
        "vectors",
    )

    def row(use: Any) -> tuple[str, ...]:
        name = f"{use.readable_id} (deleted, being removed)" if use.is_leaving else use.readable_id
        counts = (f"{count:,}" for count in (use.connections, use.entities, use.chunks))
        return name, *counts, decimal(use.size_bytes), use.vectors

    if uses:
        show_table(columns, map(row, uses))
