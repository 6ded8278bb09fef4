"""Plays ``temporal-sql-tool`` on a real Postgres: the commands, options and refusals that docker/temporal-schema.sh
meets. Each call is a line in the file ``SQL_TOOL_CALLS``.

    temporal-sql-tool --db NAME create-database | setup-schema -v VERSION | update-schema -d FOLDER
"""

import argparse
import json
import os
import sys
from pathlib import Path

import psycopg
from psycopg import errors, sql


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--db", required=True)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("create-database")
    commands.add_parser("setup-schema").add_argument("-v", dest="version", required=True)
    commands.add_parser("update-schema").add_argument("-d", dest="folder", type=Path, required=True)
    asked = parser.parse_args()
    with Path(os.environ["SQL_TOOL_CALLS"]).open("a") as calls:
        calls.write(f"{asked.db} {asked.command}\n")
    assert os.environ["SQL_PLUGIN"] == "postgres12"
    try:
        if asked.command == "create-database":
            create(asked.db)
        elif asked.command == "setup-schema":
            setup(asked.db, asked.version)
        else:
            update(asked.db, asked.folder)
    except (psycopg.Error, Refused) as error:
        said = str(error).splitlines()[0]
        json.dump({"level": "error", "msg": f"Unable to {asked.command}.", "error": said}, sys.stderr)
        return 1
    return 0


class Refused(Exception):
    """What the tool says by itself."""


def connect(database: str) -> psycopg.Connection[tuple[str]]:
    return psycopg.connect(
        host=os.environ["SQL_HOST"],
        port=os.environ["SQL_PORT"],
        user=os.environ["SQL_USER"],
        password=os.environ["SQL_PASSWORD"],
        dbname=database,
        autocommit=True,
    )


def create(database: str) -> None:
    with connect("postgres") as connection:
        try:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
        except errors.DuplicateDatabase:
            return


def setup(database: str, version: str) -> None:
    with connect(database) as connection:
        connection.execute("create table if not exists schema_version (curr_version text)")
        try:
            noted = read(connection)
        except (psycopg.Error, Refused):  # whatever the trouble: it is taken for a new database
            noted = "0.0"
        if parsed(noted) <= parsed(version):
            note(connection, version)


def update(database: str, folder: Path) -> None:
    with connect(database) as connection:
        try:
            noted = read(connection)
        except (psycopg.Error, Refused) as error:
            raise Refused(f"error reading current schema version:{error}") from None
        for number, place in sorted((parsed(path.name[1:]), path) for path in folder.glob("v*")):
            if number <= parsed(noted):
                continue
            manifest = json.loads((place / "manifest.json").read_text())
            for name in manifest["SchemaUpdateCqlFiles"]:
                try:
                    connection.execute((place / name).read_bytes())
                except psycopg.Error as error:
                    if "already exist" not in str(error):
                        raise
            note(connection, manifest["CurrVersion"])


def read(connection: psycopg.Connection[tuple[str]]) -> str:
    row = connection.execute("select curr_version from schema_version").fetchone()
    if row is None:
        raise Refused("sql: no rows in result set")
    return row[0]


def note(connection: psycopg.Connection[tuple[str]], version: str) -> None:
    connection.execute("delete from schema_version")
    connection.execute("insert into schema_version values (%s)", (version,))


def parsed(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


if __name__ == "__main__":
    sys.exit(main())
