"""The page that ``make faults`` writes: which fault was survived, on which driver, how often, how long it took; and the
tables of tests that have one."""

from collections import defaultdict
from datetime import UTC, datetime

import pytest

HEAD = """# Faults survived

Written by `make faults` on {when}, with {times}. Each row is a fault that real processes on a real Postgres, a real
Temporal server and real HTTP servers were put through; the tests are named so that each can be run alone with
`.venv/bin/python -m pytest -k NAME`. What must hold in each of them stands in [testing.md](testing.md).

| fault | driver | result | seconds | test | said |
|---|---|---|---:|---|---|
"""

TABLE = """
## {title}, {driver}

{table}
"""


def fault_table(reporter: pytest.TerminalReporter, config: pytest.Config) -> str:
    """The page as Markdown, one row a test and driver. A test's property ``table`` is a title, a newline, a table."""
    rows: dict[tuple[int, str, str], list[str]] = defaultdict(list)
    tables: list[str] = []
    for result in ("passed", "failed", "skipped"):
        for report in reporter.getreports(result):
            given = dict(report.user_properties)
            if "fault" not in given or (report.when != "call" and report.outcome == "passed"):
                continue
            name, driver = str(given["fault"]).split("|")
            said = "; ".join(str(line) for key, line in report.user_properties if key == "say")
            test = report.nodeid.split("::")[-1].split("[")[0]
            row = f"| {name} | {driver} | {result} | {report.duration:.1f} | `{test}` | {said.replace('|', '/')} |"
            rows[(int(name.lstrip("F")), driver, test)].append(row)
            if "table" in given:
                title, _, table = str(given["table"]).partition("\n")
                tables.append(TABLE.format(title=title, driver=driver, table=table))
    times = "default times" if config.getoption("--default-times") else "shortened times"
    head = HEAD.format(when=datetime.now(UTC).date().isoformat(), times=times)
    return head + "\n".join(row for key in sorted(rows) for row in rows[key]) + "\n" + "".join(sorted(tables))
