"""Use cases of backups: write one, bring it back, and say of both what becomes of the vault key."""

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

NAMED = 5  # connections that a line names; the rest is counted


def write(database: Database, settings: Settings, path: Path, *, with_key: bool, overwrite: bool) -> list[str]:
    """Write a backup, while servers run or not; returns what a person should know of it. Raises ``Unstartable``."""
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
    return [f"Wrote {path}, {decimal(path.stat().st_size)}: {_held(manifest)}.", _key_of(manifest, keys, settings)]


def restore(database: Database, settings: Settings, archive: Archive, *, replace: bool, this_host: bool) -> list[str]:
    """Bring a backup back into a database that nobody uses; returns what a person should know, and do. Raises
    ``Unstartable``, after which nothing was changed."""
    manifest, host = archive.manifest, socket.gethostname()
    kept, given = kept_keys(settings), archive.keys()
    is_new = given is not None and kept is None
    if is_new:  # first, for with the data and without its key a server would make another one
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
    said = [f"Restored {archive.path} of {manifest.created_at:%Y-%m-%d %H:%M} UTC: {_held(manifest)}."]
    if jobs:
        said.append(f"Syncs under way at that moment: {jobs}. They go on from their last batch when the server is up.")
    if is_new:
        said.append(f"The vault key {_ids(manifest.key_ids)} was in it, and is in {settings.key_file()} now.")
    if closed:
        said.append(_how_to_open(closed, now_kept, archive, settings))
    elif manifest.sealed_with and now_kept is not None and not is_new:
        said.append(f"The vault key of {now_kept.place} opens all stored credentials.")
    elif not is_new:
        said.append("No credentials are stored in it, so no vault key is needed.")
    if elsewhere:
        names = _named([f"{one.name} on {one.host}" for one in elsewhere])
        said.append(
            f"Read on other hosts only: {names}. They wait for a server there; to read them on this one, restore once "
            "more with --replace --this-host."
        )
    return said


def kept_keys(settings: Settings) -> vault.Keys | None:
    """The vault keys of this installation; None where there is none yet."""
    setting = settings.vault_key.get_secret_value() if settings.vault_key is not None else None
    return vault.find_keys(setting, settings.key_file())


def _held(manifest: Manifest) -> str:
    nouns = {"collection": "collection", "source_connection": "connection", "entity": "entity", "chunk": "chunk"}
    return ", ".join(_many(manifest.rows(table), noun) for table, noun in nouns.items())


def _key_of(manifest: Manifest, keys: vault.Keys | None, settings: Settings) -> str:
    sealed = sum(manifest.sealed_with.values())
    if manifest.key_ids:
        closed = _ids(tuple(set(manifest.sealed_with) - set(manifest.key_ids)))
        return f"The vault key {_ids(manifest.key_ids)} is in it: whoever has the file can open the credentials." + (
            f" But some are sealed with key {closed}, which is not here." if closed else ""
        )
    if not sealed:
        return "The vault key is NOT in it, and not needed: no credentials are stored."
    ids = tuple(manifest.sealed_with)
    is_here = keys is not None and set(ids) <= set(keys.ids)
    if keys is not None and is_here:
        place = f"but kept in {keys.place}: keep a copy of it elsewhere"
    else:
        place = f"and not in {settings.key_file()} either"
    return (
        f"The vault key {_ids(ids)} is NOT in it, {place}. Without it the credentials of {_many(sealed, 'connection')} "
        "have to be entered again."
    )


def _how_to_open(closed: list[Sealed], kept: vault.Keys | None, archive: Archive, settings: Settings) -> str:
    needed = {one.key_id for one in closed}
    said = f"{_many(len(closed), 'connection')} sealed with a key that is not here ({_ids(tuple(needed))}): "
    said += _named([one.name for one in closed]) + ". "
    present = "$VAULT_KEY" if settings.vault_key is not None else f"$(cat {shlex.quote(str(settings.key_file()))})"
    if needed <= set(archive.manifest.key_ids):
        inside = f"$(tar -xOf {shlex.quote(str(archive.path))} {backup.KEY})"
        return said + f'The backup has it; start the server once with both: VAULT_KEY="{present},{inside}"'
    other = f'put it behind the present one, VAULT_KEY="{present},OLD"' if kept else f"put it in {settings.key_file()}"
    return said + f"If you have it, {other}; else send new credentials: PATCH /source-connections/ID"


def _many(count: int, noun: str) -> str:
    plural = {"entity": "entities"}.get(noun, f"{noun}s")
    return f"{count:,} {noun if count == 1 else plural}"


def _named(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _ids(ids: tuple[str, ...]) -> str:
    return ", ".join(sorted(ids))
