"""Shows a sync: its preview, its progress and its result."""

import time
from collections import deque

from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

from .. import wire
from ..client import ACTIVE, Client
from ..errors import ClientError
from .common import Words, inline, out, say, show

POLL_S = 0.2
PACE_S = 30.0  # the shown pace is an average over this time
COUNTS = ("inserted", "updated", "deleted", "kept", "skipped", "failed")


def follow(client: Client, job: wire.SourceConnectionJob, *, expected: int | None) -> None:
    """Show a job's progress until it ends. Raises ``ClientError`` if it failed.

    ``expected``: the number of entities in a full listing, if known.
    """
    columns = (
        SpinnerColumn(),
        Words("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Words("{task.fields[pace]}"),
        TimeElapsedColumn(),
    )
    connection_id = job.source_connection_id
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("pending", total=None, pace="")
        pace = _Pace()
        while job.status in ACTIVE:
            doing = job.phase if job.status == "running" else job.status
            if job.waiting_for:
                doing += f", waiting for {job.waiting_for}"
            seen = job.entities_encountered
            total = max(expected, seen) if expected and job.mode == "full" else None  # unknown if only changes are read
            progress.update(
                task,
                description=doing,
                completed=seen,
                total=total,
                pace=pace.describe(seen, total, at_s=time.monotonic()),
            )
            time.sleep(POLL_S)
            job = client.job(connection_id, job.id)
    say(f"{job.status}: {describe_counts(job)}")
    if job.held_deletes:
        show(
            f"[yellow]Held deletes: {job.held_deletes}[/]: see {client.url}/source-connections/{connection_id}"
            "/held-deletes, then POST …/approve or …/dismiss"
        )
    if count := job.entities_never_read:
        noun = "entity" if count == 1 else "entities"
        show(f"[yellow]Removed {count:,} {noun} from the index[/]: files of these names are never read")
    if count := job.entities_incomplete:
        noun = "entity lacks" if count == 1 else "entities lack"
        show(
            f"[yellow]{count:,} {noun} something[/] that their source has: see left_out in {client.url}"
            f"/source-connections/{connection_id}/entities?incomplete=true"
        )
    if job.unsettled:
        show("[yellow]Unsettled[/]: entities moved while they were read; the next sync finds what this one missed")
    if job.status == "failed":
        raise ClientError(f"the sync failed: {job.error}")


def describe_counts(job: wire.SourceConnectionJob) -> str:
    counts = ", ".join(f"{getattr(job, f'entities_{name}'):,} {name}" for name in COUNTS)
    duration_s = job.duration_seconds or 0.0
    rate = f", {job.entities_encountered / duration_s:,.0f} docs/s" if duration_s > 0 else ""
    return f"{counts} in {duration_s:.1f} s{rate}"


def show_preview(found: wire.SourceConnectionPreview, *, whole: bool) -> None:
    """Print what a first sync would do. ``whole``: also what it would leave out."""
    least, about = "" if found.is_complete else "at least ", "" if found.is_exact else "about "
    took = f", in about {_duration(found.seconds)}" if found.seconds is not None else ""
    what = "files" if found.short_name == "folder" else "entities"
    noun = "chunk" if found.chunks == 1 else "chunks"
    indexed = "all" if found.indexed == found.entities else f"{found.indexed:,}"
    show(
        f"{least}{found.entities:,} {what} ({decimal(found.size_bytes)}), {indexed} indexable: "
        f"{about}{found.chunks:,} {noun} with {inline(found.embedding_model_name)}{took}"
    )
    if not whole:
        return
    for verb, reasons in (("skipped", found.skipped), ("failed", found.failed), ("incomplete", found.incomplete)):
        for each in reasons:
            about = "" if each.is_exact else "about "
            more = ", …" if each.entities > len(each.examples) else ""
            examples = inline(", ".join(each.examples) + more)
            show(f"  {verb}  {about}{each.entities:,}  {inline(each.reason)}: {examples}")
    for note in found.notes:
        show(f"  {inline(note)}")


class _Pace:
    """The recent number of entities per second, and the time left at that pace."""

    def __init__(self) -> None:
        self._met: deque[tuple[float, int]] = deque()

    def describe(self, seen: int, total: int | None, *, at_s: float) -> str:
        self._met.append((at_s, seen))
        while at_s - self._met[0][0] > PACE_S:
            self._met.popleft()
        since_s, before = self._met[0]
        if seen == before:
            return ""
        per_s = (seen - before) / (at_s - since_s)
        left = f", {_duration((total - seen) / per_s)} left" if total is not None and seen < total else ""
        return f"{per_s:,.0f}/s{left}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:.1f} h"
