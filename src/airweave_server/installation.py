"""What this installation has: its database, on ``DATABASE_URL`` or in the data directory, and its vault key. For every
process, so it loads neither the HTTP API nor Temporal."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import vault
from .db import backup, embedded
from .db.embedded import EmbeddedPostgres, attach
from .db.session import Database
from .errors import Unstartable
from .settings import Settings

Say = Callable[[str], None]


NEW_OBJECTS = 10_000  # after which garbage among them is looked for


def loaded() -> None:
    """Called by a process that begins to serve: what it has loaded stays, and is no longer looked at whenever garbage
    is collected. That was a fifth of the time in which a folder is listed."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)


def database_url(settings: Settings) -> str:
    """``DATABASE_URL``, or the embedded Postgres of the data directory, which must be up."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    forget_libpq_variables()
    return attach(settings.place())


@contextmanager
def open_database(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        database.check()
        yield database
    finally:
        database.close()


@contextmanager
def any_database(settings: Settings, *, say: Say, alone: bool = False) -> Iterator[Database]:
    """The database, whether or not a server is up: the embedded Postgres is started where it does not run, and stopped
    in the end. ``alone``: nobody else may own it meanwhile, and it is made where there is none."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that what is begun is taken back
    if settings.database_url is not None:
        with open_database(settings.database_url.get_secret_value()) as database:
            yield database
        return
    forget_libpq_variables()
    place = settings.place()
    was_running = embedded.is_running(place)
    if was_running and not alone:
        with open_database(attach(place)) as database:
            yield database
        return
    if not alone and not embedded.has_data(place):
        raise Unstartable(f"there is no data in {place}; name its directory with --data-dir, or set DATABASE_URL")
    postgres = EmbeddedPostgres(place)
    url = postgres.start()
    try:
        for line in postgres.notes:
            say(line)
        with open_database(url) as database:
            yield database
    finally:
        if was_running:
            postgres.release()
        else:
            postgres.stop()


def reset(settings: Settings, *, with_key: bool) -> None:
    """Remove all that we hold: with ``DATABASE_URL`` our tables, else the data of the embedded Postgres; the vault
    key only if asked for. Raises ``Unstartable`` when somebody uses it."""
    if settings.database_url is not None:
        with open_database(settings.database_url.get_secret_value()) as database:
            backup.drop(database)
    else:
        forget_libpq_variables()
        embedded.erase(settings.place(), look=_check_unused)
    if with_key:
        settings.key_file().unlink(missing_ok=True)


def what_is_held(settings: Settings) -> str:
    """What ``reset`` removes, for a person who is asked."""
    if settings.database_url is not None:
        return f"our tables in {Database(settings.database_url.get_secret_value()).where()}"
    return f"the data of the embedded Postgres in {settings.place()}"


def open_vault(settings: Settings) -> vault.Vault:
    if settings.vault_key is not None:
        return vault.from_setting(settings.vault_key.get_secret_value())
    place = settings.place()
    try:
        place.mkdir(mode=0o711, parents=True, exist_ok=True)
        return vault.from_file(settings.key_file())
    except OSError as error:
        raise Unstartable(f"{settings.key_file()} cannot be used ({error.strerror}); set VAULT_KEY") from None


def forget_libpq_variables() -> None:
    """PGHOSTADDR, PGSERVICE and their like would lead connections away from the embedded Postgres."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _check_unused(url: str) -> None:
    with open_database(url) as database:
        backup.check_unused(database)
