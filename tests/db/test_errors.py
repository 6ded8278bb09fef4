"""What is said of an error of the database, and how errors are sorted."""

import psycopg
from sqlalchemy.exc import OperationalError

from airweave_server.db.session import first_line


def test_an_error_is_said_in_one_line_and_one_without_a_text_by_its_type() -> None:
    assert first_line(psycopg.OperationalError("server closed the connection\nunexpectedly")) == (
        "server closed the connection"
    )
    assert first_line(psycopg.OperationalError()) == "OperationalError"
    wrapped = OperationalError("select 1", None, psycopg.errors.AdminShutdown(""))
    assert first_line(wrapped)
