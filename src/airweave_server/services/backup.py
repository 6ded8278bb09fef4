"""Use cases of backups: write one, restore one, and report where its vault key is."""

import shlex
import socket
from pathlib import Path

from rich.filesize import decimal

from .. import vault
from ..db import backup, connections
from ..db.backup import Archive, Manifest
from ..db.connections import Sealed
from ..db.session import Database
from ..errors import Unstartable
from ..settings import Settings

NAMED = 5  # connections that a line names; the rest are counted


def write(database: Database, settings: Settings, path: Path, *, with_key: bool, overwrite: bool) -> list[str]:
    """Write a backup, whether servers are running or not. Returns lines for a person. Raises ``Unstartable``."""
    keys = kept_keys(settings)
    if with_key and keys is None:
        raise Unstartable(f"--with-key: there is no vault key, neither in VAULT_KEY nor in {settings.key_file()}")
    manifest = backup.write(
        database,
        path,
        keys=keys.text if keys is not None and with_key else None,
        key_ids=keys.ids if keys is not None else (),
        overwrite=overwrite,
    )
    size = decimal(path.stat().st_size)
    return [f"Wrote {path}, {size}: {_describe_rows(manifest)}.", _describe_key(manifest, keys, settings)]


def restore(database: Database, settings: Settings, archive: Archive, *, replace: bool, this_host: bool) -> list[str]:
    """Restore a backup into a database that no server uses. Returns lines for a person: what was done, and what to do.

    Raises ``Unstartable``; then nothing was changed.
    """
    manifest, host = archive.manifest, socket.gethostname()
    kept, given = kept_keys(settings), archive.keys()
    is_new = given is not None and kept is None
    if is_new:  # before the data: a server that finds data without its key would create another key
        settings.place().mkdir(mode=0o711, parents=True, exist_ok=True)
        vault.write_key_file(settings.key_file(), given or "")
    try:
        jobs = backup.load(database, archive, replace=replace, host=host if this_host else None)
    except BaseException:
        if is_new:
            settings.key_file().unlink()
        raise
    now_kept = kept_keys(settings)
    with database.session() as session:
        closed = connections.list_unopenable(session, now_kept.ids if now_kept is not None else ())
        elsewhere = connections.list_on_other_hosts(session, host)
    lines = [f"Restored {archive.path} of {manifest.created_at:%Y-%m-%d %H:%M} UTC: {_describe_rows(manifest)}."]
    if jobs:
        lines.append(f"Syncs running at that time: {jobs}. They resume from their last batch when a server is up.")
    if is_new:
        lines.append(f"The backup's vault key {_ids(manifest.key_ids)} is now in {settings.key_file()}.")
    if closed:
        lines.append(_explain_key(closed, now_kept, archive, settings))
    elif manifest.sealed_with and now_kept is not None and not is_new:
        lines.append(f"The vault key in {now_kept.place} opens all stored credentials.")
    elif not is_new:
        lines.append("The backup holds no credentials, so it needs no vault key.")
    if elsewhere:
        names = _name_some([f"{one.name} on {one.host}" for one in elsewhere])
        lines.append(
            f"Read on other hosts only: {names}. They wait for a server there; to read them on this host, restore "
            "again with --replace --this-host."
        )
    return lines


def kept_keys(settings: Settings) -> vault.Keys | None:
    """The vault keys of this installation; None if there are none yet."""
    setting = settings.vault_key.get_secret_value() if settings.vault_key is not None else None
    return vault.find_keys(setting, settings.key_file())


def _describe_rows(manifest: Manifest) -> str:
    nouns = {"collection": "collection", "source_connection": "connection", "entity": "entity", "chunk": "chunk"}
    return ", ".join(_count(manifest.rows(table), noun) for table, noun in nouns.items())


def _describe_key(manifest: Manifest, keys: vault.Keys | None, settings: Settings) -> str:
    sealed = sum(manifest.sealed_with.values())
    if manifest.key_ids:
        closed = _ids(tuple(set(manifest.sealed_with) - set(manifest.key_ids)))
        text = f"The vault key {_ids(manifest.key_ids)} is in it: anyone with the file can open the credentials."
        return text + (f" But some are sealed with key {closed}, which is missing." if closed else "")
    if not sealed:
        return "The vault key is NOT in it, and not needed: no credentials are stored."
    ids = tuple(manifest.sealed_with)
    is_here = keys is not None and set(ids) <= set(keys.ids)
    if keys is not None and is_here:
        place = f"but in {keys.place}: keep a copy of it elsewhere"
    else:
        place = f"and not in {settings.key_file()} either"
    affected = _count(sealed, "connection")
    return (
        f"The vault key {_ids(ids)} is NOT in it, {place}. Without it, the credentials of {affected} must be "
        "entered again."
    )


def _explain_key(closed: list[Sealed], kept: vault.Keys | None, archive: Archive, settings: Settings) -> str:
    needed = {one.key_id for one in closed}
    text = f"{_count(len(closed), 'connection')} sealed with a missing key ({_ids(tuple(needed))}): "
    text += _name_some([one.name for one in closed]) + ". "
    present = "$VAULT_KEY" if settings.vault_key is not None else f"$(cat {shlex.quote(str(settings.key_file()))})"
    if needed <= set(archive.manifest.key_ids):
        inside = f"$(tar -xOf {shlex.quote(str(archive.path))} {backup.KEY})"
        return text + f'The backup has it; start the server once with both: VAULT_KEY="{present},{inside}"'
    other = f'add it behind the current one, VAULT_KEY="{present},OLD"' if kept else f"put it in {settings.key_file()}"
    return text + f"If you have it, {other}; otherwise send new credentials: PATCH /source-connections/ID"


def _count(count: int, noun: str) -> str:
    plural = {"entity": "entities"}.get(noun, f"{noun}s")
    return f"{count:,} {noun if count == 1 else plural}"


def _name_some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _ids(ids: tuple[str, ...]) -> str:
    return ", ".join(sorted(ids))
