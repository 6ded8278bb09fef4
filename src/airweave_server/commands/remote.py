"""The commands that talk to a running server."""

import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from .. import plugins
from ..client import Client
from ..errors import ClientError
from .common import out, read_settings, show

POLL_S = 0.2
PACE_S = 30.0  # of the last so many seconds the pace is told
PASSAGE_CHARS = 240

Folder = Annotated[Path, typer.Argument(help="The folder to connect.")]
Include = Annotated[list[str] | None, typer.Option(help="Glob of files to take; may be given again.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Glob of files to leave; may be given again.")]
CollectionOf = Annotated[str, typer.Option("--collection", "-c", help="The collection's readable id.")]

app = typer.Typer(rich_markup_mode=None)


@app.command()
def preview(
    folder: Folder, collection: CollectionOf = "default", include: Include = None, exclude: Exclude = None
) -> None:
    """Say what a first sync of a folder would read, make and leave out, and how long it would take; stores nothing."""
    with _client() as client:
        found = client.preview_folder(collection, _folder(folder, include, exclude))
    show(escape(_expected(found)))
    for verb in ("skipped", "failed"):
        for each in found[verb]:
            about = "" if each["is_exact"] else "about "
            more = ", …" if each["entities"] > len(each["examples"]) else ""
            examples = escape(", ".join(each["examples"]) + more)
            show(f"  {verb}  {about}{each['entities']:,}  {escape(each['reason'])}: {examples}")
    for note in found["notes"]:
        show(f"  {escape(note)}")


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
                show(escape(_expected(found)))
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
            show(
                f"[bold]{escape(item['name'])}[/] in {item['readable_collection_id']}: {item['short_name']}, "
                f"{item['status']}, {item['entity_count']:,} entities{held}"
            )
            show(f"  id         {item['id']}")
            show("  last sync  " + (f"{job['status']}: {_counts(job)}" if job else "never"))


@app.command()
def sources() -> None:
    """List the sources that are installed here, with their configuration."""
    settings = read_settings()
    table = Table("name", "title", "what it reads", "configuration")
    for kind in plugins.sources().values():
        if not kind.internal or settings.enable_internal_sources:
            fields = (f"{name}{'' if f.is_required() else '?'}" for name, f in kind.config_model.model_fields.items())
            table.add_row(kind.name, kind.title, kind.description, ", ".join(fields))
    out.print(table)


def _client() -> Client:
    return Client.from_settings(read_settings())


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


def _passage(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= PASSAGE_CHARS else flat[: PASSAGE_CHARS - 1] + "…"


def _fitting(name: str) -> str:
    """A name of 4 to 42 characters, as the API wants it."""
    name = name[:42]
    return name if len(name) >= 4 else f"Folder {name}"
