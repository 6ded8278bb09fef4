"""The database and the vault key of this installation. Every process uses it, so it imports neither the HTTP API nor
Temporal."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import vault
from .db import backup, embedded
from .db.embedded import EmbeddedPostgres, attach
from .db.room import Room
from .db.session import CONNECTIONS, Database
from .errors import Unstartable
from .settings import Settings

Say = Callable[[str], None]


NEW_OBJECTS = 10_000  # objects made between two garbage collections


def settle_garbage() -> None:
    """Exempt everything loaded so far from garbage collection, when a process starts to serve. Scanning it took a fifth
    of the time that listing a folder takes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)


def database_url(settings: Settings) -> str:
    """``DATABASE_URL``, or the URL of the embedded Postgres in the data directory, which must be running."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    forget_libpq_variables()
    return attach(settings.place())


def room_of(settings: Settings) -> Room:
    """The disk of the database, which can be measured if the embedded Postgres is used."""
    place = settings.place() if settings.database_url is None else None
    return Room(place, least_bytes=settings.min_free_mb * 1_000_000)


@contextmanager
def open_database(url: str, room: Room | None = None, *, connections: int = CONNECTIONS) -> Iterator[Database]:
    """The database at ``url``, with at most so many pooled ``connections``; checked on entry and closed on exit."""
    database = Database(url, room, connections=connections)
    try:
        database.check()
        yield database
    finally:
        database.close()


@contextmanager
def any_database(settings: Settings, *, say: Say, alone: bool = False) -> Iterator[Database]:
    """The database, whether or not a server is running. The embedded Postgres is started if it is down, and then
    stopped on exit. ``alone``: take ownership of the embedded Postgres, and create it if there is none.

    Raises ``Unstartable``.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that SIGTERM cleans up too
    if settings.database_url is not None:
        with open_database(settings.database_url.get_secret_value(), room_of(settings)) as database:
            yield database
        return
    forget_libpq_variables()
    place = settings.place()
    was_running = embedded.is_running(place)
    if was_running and not alone:
        with open_database(attach(place), room_of(settings)) as database:
            yield database
        return
    if not alone and not embedded.has_data(place):
        raise Unstartable(f"there is no data in {place}; name the data directory with --data-dir, or set DATABASE_URL")
    postgres = EmbeddedPostgres(place)
    url = postgres.start()
    try:
        for line in postgres.notes:
            say(line)
        with open_database(url, room_of(settings)) as database:
            yield database
    finally:
        if was_running:
            postgres.release()
        else:
            postgres.stop()


def reset(settings: Settings, *, with_key: bool) -> None:
    """Delete our tables from ``DATABASE_URL``, or the data of the embedded Postgres; ``with_key``: also the vault key.
    Raises ``Unstartable`` if the data is in use."""
    if settings.database_url is not None:
        with open_database(settings.database_url.get_secret_value()) as database:
            backup.drop(database)
    else:
        forget_libpq_variables()
        embedded.erase(settings.place(), look=_check_unused)
    if with_key:
        settings.key_file().unlink(missing_ok=True)


def describe_data(settings: Settings) -> str:
    """What ``reset`` deletes, in words for a confirmation."""
    if settings.database_url is not None:
        return f"our tables in {Database(settings.database_url.get_secret_value()).address()}"
    return f"the data of the embedded Postgres in {settings.place()}"


def open_vault(settings: Settings) -> vault.Vault:
    """The vault of ``VAULT_KEY``, or of the key file in the data directory, which is made if there is none. Raises
    ``Unstartable``."""
    if settings.vault_key is not None:
        return vault.from_setting(settings.vault_key.get_secret_value())
    place = settings.place()
    try:
        place.mkdir(mode=0o711, parents=True, exist_ok=True)
        return vault.from_file(settings.key_file())
    except OSError as error:
        raise Unstartable(f"cannot use {settings.key_file()} ({error.strerror}); set VAULT_KEY") from None


def forget_libpq_variables() -> None:
    """Unset PGHOSTADDR, PGSERVICE and the like, which would direct connections away from the embedded Postgres."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _check_unused(url: str) -> None:
    with open_database(url) as database:
        backup.check_unused(database)
