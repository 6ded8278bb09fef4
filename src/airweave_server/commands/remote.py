"""The commands that talk to a running server."""

import re
import time
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn

from .. import wire
from ..client import Client, fill
from ..errors import ClientError
from . import forms
from .common import Words, inline, out, read_settings, say, show
from .forms import Config, Secret
from .progress import POLL_S, describe_counts, follow, show_preview

NO_SCHEDULE = "none"

Folder = Annotated[Path, typer.Argument(help="The folder to read.")]
Include = Annotated[list[str] | None, typer.Option(help="Glob of files to include; may be repeated.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Glob of files to exclude; may be repeated.")]
CollectionOf = Annotated[str, typer.Option("--collection", "-c", help="The collection's readable id.")]
Language = Annotated[str | None, typer.Option(help="Language of the texts in a new collection. [default: english]")]
Schedule = Annotated[str | None, typer.Option(help="Cron expression for syncs, or none. [default: the source's own]")]
Wait = Annotated[bool, typer.Option(help="Wait for the sync to finish.")]

app = typer.Typer(rich_markup_mode=None)


class Tier(StrEnum):
    INSTANT = "instant"
    CLASSIC = "classic"
    AGENTIC = "agentic"


@app.command()
def preview(
    folder: Folder, collection: CollectionOf = "default", include: Include = None, exclude: Exclude = None
) -> None:
    """Show what a first sync of a folder would read, index and leave out, and how long it would
    take. Stores nothing."""
    with _client() as client:
        config = _folder(folder, include, exclude)
        body = fill(wire.SourceConnectionCreate, short_name="folder", readable_collection_id=collection, config=config)
        show_preview(client.preview(body), whole=True)


@app.command()
def add(
    folder: Folder,
    collection: CollectionOf = "default",
    name: Annotated[str | None, typer.Option(help="The connection's name. [default: the folder's]")] = None,
    include: Include = None,
    exclude: Exclude = None,
    language: Language = None,
    wait: Wait = True,
) -> None:
    """Connect a folder to a collection and sync it. A missing collection is created; a folder that is already connected
    to it is only synced."""
    with _client() as client:
        source = client.source("folder")
        answers = forms.Answers(config=_folder(folder, include, exclude))
        _connect(
            client,
            source,
            answers,
            collection,
            name=name,
            fallback=_fit_name(folder.absolute().name),
            language=language,
            wait=wait,
        )


@app.command()
def connect(
    source: Annotated[str, typer.Argument(help="The source; airweave-server sources lists all.")],
    collection: CollectionOf = "default",
    config: Config = None,
    secret: Secret = None,
    name: Annotated[str | None, typer.Option(help="The connection's name. [default: derived from the source]")] = None,
    schedule: Schedule = None,
    language: Language = None,
    wait: Wait = True,
) -> None:
    """Connect any source to a collection and sync it; asks for missing fields. A missing collection is created; a
    source that is already connected to it is only synced."""
    with _client() as client:
        known = {one.short_name: one for one in client.sources()}
        if source not in known:
            raise ClientError(f"there is no source {source!r}; the sources are {', '.join(known)}")
        answers = forms.read_options(known[source], config, secret)
        _connect(client, known[source], answers, collection, name=name, schedule=schedule, language=language, wait=wait)


@app.command()
def sync(
    connection: Annotated[str | None, typer.Argument(help="A connection's id or name. [default: all]")] = None,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Only the connections of this collection.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Read everything again, not only changes.")] = False,
) -> None:
    """Sync connections and show the result."""
    with _client() as client:
        found = client.connections(collection)
        if connection is not None:
            found = [one for one in found if connection in (str(one.id), one.name)]
        if not found:
            raise ClientError("there is no such connection; airweave-server status lists them, add creates one")
        for one in found:
            show(f"[bold]{inline(one.name)}[/] in {inline(one.readable_collection_id)}")
            _sync(client, one.id, full=full)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to search for.")],
    collection: CollectionOf = "default",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The number of results.")] = 5,
    why: Annotated[bool, typer.Option("--why", help="Show what each result was ranked by.")] = False,
    tier: Annotated[Tier, typer.Option(help="How much is done for it.")] = Tier.INSTANT,
) -> None:
    """Search a collection and show the matching passages, the words of the query in bold."""
    with _client() as client:
        answer = _search(client, collection, query, limit=limit, why=why, tier=tier)
    if not answer.results:
        say("Nothing found.")
    if answer.did_you_mean is not None:
        show(f"Searched for [bold]{inline(answer.did_you_mean)}[/].")
    if answer.results and answer.nothing_relevant:
        say("Nothing relevant was found. The nearest:")
    for number, hit in enumerate(answer.results, start=1):
        place = hit.airweave_system_metadata.original_entity_id
        show(f"[bold]{number}. {inline(place)}[/]  {hit.relevance_score:.3f}")
        show(f"   {_passage(hit)}")
        if hit.why is not None:
            show(f"   [dim]{inline(_describe_why(hit.why))}[/]")


def _search(client: Client, collection: str, query: str, *, limit: int, why: bool, tier: Tier) -> wire.SearchResponse:
    if tier is Tier.AGENTIC:
        if why:
            raise ClientError("--why is for the tiers instant and classic")
        return _search_by_agent(client, collection, fill(wire.AgenticSearchRequest, query=query, limit=limit))
    body = fill(wire.SearchRequest, query=query, limit=limit, explain=why)
    answer = client.classic(collection, body) if tier is Tier.CLASSIC else client.answer(collection, body)
    if answer.plan is not None:
        _show_plan(answer.plan)
    return answer


def _search_by_agent(client: Client, collection: str, body: wire.AgenticSearchRequest) -> wire.AgenticSearchResponse:
    """Show each step when it has been taken, and the answer."""
    for event in client.stream_agentic(collection, body):
        given = event.model_dump()
        if event.type == "tool_call":
            show(f"[dim]{inline(given['tool_name'])}, {given['duration_ms']} ms[/]")
        elif event.type == "done":
            answer = wire.AgenticSearchResponse.model_validate(given)
            if answer.plan is not None and answer.plan.reason is not None:
                show(f"[dim]{inline(answer.plan.reason)}[/]")
            if answer.completion is not None:
                show(inline(answer.completion))
            return answer
    raise ClientError("the stream ended before the search did; try again")


def _show_plan(plan: wire.SearchPlan) -> None:
    if plan.reason is not None:
        show(f"[dim]{inline(plan.reason)}[/]")
    for query in plan.queries[1:]:
        show(f"[dim]also searched for: {inline(query)}[/]")
    if plan.filter_matched:
        fields = dict.fromkeys(one.field for group in plan.filter for one in group.conditions)
        show(f"[dim]first what fits: {inline(', '.join(fields))}[/]")


@app.command()
def reembed(
    collection: Annotated[str, typer.Argument(help="The collection to move.")],
    to: Annotated[str | None, typer.Option("--to", help="The new embedder.")] = None,
    abandon: Annotated[bool, typer.Option("--abandon", help="Abandon the current move.")] = False,
) -> None:
    """Move a collection to another embedder, or continue a move. Search works as before until the move is complete.
    Exit 1 if it does not complete."""
    with _client() as client:
        if abandon:
            seen = client.abandon_reembed(collection)
            say(f"{collection} stays with {seen.embedder} ({seen.embedding_model_name}).")
            return
        if to is None:
            raise ClientError("name the embedder with --to, or abandon a move with --abandon")
        seen = client.start_reembed(collection, fill(wire.ReembedRequest, embedder=to))
        columns = (SpinnerColumn(), Words("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
            bar = progress.add_task(f"to {to}")
            while seen.state == "moving":
                progress.update(bar, total=seen.entities_total, completed=seen.entities_done)
                if lost := [job for job in seen.jobs if job.status in ("failed", "cancelled")]:
                    why = "; ".join(f"{job.status}: {job.error or 'on request'}" for job in lost)
                    raise ClientError(f"the move did not complete ({why}); run the same command to continue")
                time.sleep(POLL_S)
                seen = client.reembed(collection)
        say(f"{collection} now has {seen.embedder} ({seen.embedding_model_name}).")


@app.command()
def status() -> None:
    """Show the server's health, its connections and their last sync."""
    with _client() as client:
        health = client.health()
        say(f"{client.url} is {health.status}; engine {health.engine}, database {health.database}")
        for one in client.connections():
            job = next(iter(client.jobs(one.id, limit=1)), None)
            held = f", [yellow]{job.held_deletes} deletes held[/]" if job and job.held_deletes else ""
            show(
                f"[bold]{inline(one.name)}[/] in {inline(one.readable_collection_id)}: {inline(one.short_name)}, "
                f"{one.status}, {one.entity_count:,} entities{held}"
            )
            show(f"  id         {one.id}")
            show("  last sync  " + (f"{job.status}: {describe_counts(job)}" if job else "never"))


def _client() -> Client:
    return Client.from_settings(read_settings())


def _connect(
    client: Client,
    source: wire.Source,
    answers: forms.Answers,
    collection: str,
    *,
    name: str | None,
    fallback: str | None = None,
    schedule: str | None = None,
    language: str | None,
    wait: bool,
) -> None:
    """Connect the source, or find the existing connection, and sync it."""
    settings, _ = forms.fields_of(source)
    missing = forms.missing_credentials(source, answers)
    forms.ask_for(source, forms.missing_settings(source, answers), answers.config, *missing)
    known = _find_connected(client, source, answers.config, collection)
    if known is not None:
        options = {one: value for one, value in answers.config.items() if not settings[one].required}
        _check_unchanged(client, known, options, answers.credentials, name=name, schedule=schedule, language=language)
        show(f'It is already connected to {inline(collection)} as {known.id} ("{inline(known.name)}"); syncing it.')
        _sync(client, known.id, wait=wait)
        return
    forms.ask_for(source, missing, answers.credentials)
    body = fill(
        wire.SourceConnectionCreate,
        short_name=source.short_name,
        readable_collection_id=collection,
        name=name or fallback,
        config=answers.config,
        sync_immediately=False,
        **({"authentication": {"credentials": answers.credentials}} if answers.credentials else {}),
        **({"schedule": {"cron": None if schedule == NO_SCHEDULE else schedule}} if schedule else {}),
    )
    client.ensure_collection(collection, language=language)
    expected = None
    if wait:
        with suppress(ClientError):  # the preview is optional; the next request reports what is wrong with the source
            found = client.preview(body)
            expected = found.entities if found.is_complete else None
            show_preview(found, whole=False)
    connection = client.create_connection(body)
    what = str(answers.config["path"]) if source.short_name == "folder" else source.name
    show(f"Connected {inline(what)} to {inline(collection)} as {connection.id}")
    job = client.run(connection.id)
    if wait:
        follow(client, job, expected=expected)


def _sync(client: Client, connection_id: Any, *, full: bool = False, wait: bool = True) -> None:
    before = client.last_full(connection_id)
    job = client.run_or_join(connection_id, full=full)
    if wait:
        follow(client, job, expected=before.entities_encountered if before else None)


def _find_connected(
    client: Client, source: wire.Source, config: dict[str, Any], collection: str
) -> wire.SourceConnection | None:
    """The connection of the collection that reads the same place: its required fields have the same values, or all of
    its fields if none is required."""
    names = [one.name for one in source.config_fields.fields if one.required]
    for one in client.connections(collection):
        if one.short_name != source.short_name:
            continue
        known = client.connection(one.id)
        its = known.config or {}
        compared = names or list(its)
        if all(_is_same(source, name, config.get(name, its.get(name)), its.get(name)) for name in compared):
            return known
    return None


def _check_unchanged(
    client: Client,
    known: wire.SourceConnection,
    options: dict[str, Any],
    credentials: dict[str, Any],
    *,
    name: str | None,
    schedule: str | None,
    language: str | None,
) -> None:
    """Raise ``ClientError`` if the options differ from the existing connection; show both."""
    its = known.config or {}
    cron = known.schedule.cron if known.schedule else None
    asked = {one: (its.get(one), value) for one, value in options.items()}
    if name is not None:
        asked["name"] = (known.name, name)
    if schedule is not None:
        asked["schedule"] = (cron or NO_SCHEDULE, schedule)
    others = {one: pair for one, pair in asked.items() if not _is_equal(*pair)}
    others |= dict.fromkeys(credentials, ("the stored one", "another one"))
    client.ensure_collection(known.readable_collection_id, language=language)
    if not others:
        return
    show(f'It is already connected to {inline(known.readable_collection_id)} as {known.id} ("{inline(known.name)}"):')
    for one, (has, wanted) in others.items():
        show(f"  {inline(one)}: it has {inline(str(has))}, you gave {inline(str(wanted))}")
    raise ClientError(
        f"{', '.join(others)}: a second connection would return every result twice; change the existing one with "
        f"PATCH {client.url}/source-connections/{known.id}, or omit the option to sync it as it is"
    )


def _is_same(source: wire.Source, name: str, given: Any, its: Any) -> bool:
    if source.short_name == "folder" and name == "path" and given and its:
        return Path(given).expanduser().resolve() == Path(its).expanduser().resolve()
    return _is_equal(given, its)


def _is_equal(one: Any, other: Any) -> bool:
    """Whether the values are equal, apart from a slash that the server may have added to a URL."""
    if isinstance(one, str) and isinstance(other, str):
        return one.rstrip("/") == other.rstrip("/")
    return bool(one == other)


def _folder(folder: Path, include: list[str] | None, exclude: list[str] | None) -> dict[str, Any]:
    globs = {key: value for key, value in (("include", include), ("exclude", exclude)) if value}
    return {"path": str(folder.expanduser().absolute()), **globs}


def _passage(hit: wire.SearchResult) -> str:
    """The passage of a result as markup, on one line, with the words of the query in bold."""

    def flat(start: int, end: int) -> str:
        return inline(re.sub(r"\s+", " ", hit.textual_representation[start:end]))

    parts, at = [], hit.passage.start
    for span in hit.highlights:
        if at <= span.start and span.end <= hit.passage.end:
            parts += [flat(at, span.start), f"[bold]{flat(span.start, span.end)}[/]"]
            at = span.end
    return "".join([*parts, flat(at, hit.passage.end)]).strip()


def _describe_why(why: wire.SearchWhy) -> str:
    rank = "listed" if why.rank is None else f"rank {why.rank:.2f}"
    parts = [f"{rank}: covers {why.coverage:.2f}, closeness {why.closeness:.2f}"]
    if why.identifiers:
        parts.append(f"identifiers {why.identifiers:.2f}")
    if why.verbatim:
        parts.append("as it was asked")
    if why.found:
        parts.append(f"holds {', '.join(why.found)}")
    if why.lacking:
        parts.append(f"lacks {', '.join(why.lacking)}")
    return "; ".join(parts)


def _fit_name(name: str) -> str:
    """A name of 4 to 42 characters, as the API requires."""
    name = name[:42]
    return name if len(name) >= 4 else f"Folder {name}"
