"""Makes a round trip with a client that was generated from the server's OpenAPI description, in a folder ``made``
beside the working directory.

Runs in the generator's environment, so it imports nothing else. Standard input is a JSON object: ``url``, ``key`` and
``folder``, which the server may read. Standard output is a JSON object: what each step came to.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, ".")

from made.api.collections import create_collection, delete_collection
from made.api.search import search_instant
from made.api.source_connections import create_source_connection, list_jobs
from made.client import AuthenticatedClient

from made import models

PATIENCE_S = 60.0


def main() -> None:
    given = json.load(sys.stdin)
    (Path(given["folder"]) / "router.md").write_text("The router answers ERR_1234 when the WAN is down.")
    client = AuthenticatedClient(given["url"], given["key"])
    made = create_collection.sync(client=client, body=models.CollectionCreate(name="Made by a generated client"))
    config = models.SourceConnectionCreateConfigType0.from_dict({"path": given["folder"]})
    body = models.SourceConnectionCreate("folder", made.readable_id, config=config, sync_immediately=True)
    connection = create_source_connection.sync(client=client, body=body)
    ends_at = time.monotonic() + PATIENCE_S
    while (job := list_jobs.sync(connection.id, client=client)[0]).status not in ("completed", "failed"):
        assert time.monotonic() < ends_at, job
        time.sleep(0.1)
    found = search_instant.sync(made.readable_id, client=client, body=models.SearchRequest("ERR_1234"))
    refused = create_collection.sync(client=client, body=models.CollectionCreate(name="no"))
    deleted = delete_collection.sync(made.readable_id, client=client)
    absent = search_instant.sync(made.readable_id, client=client, body=models.SearchRequest("ERR_1234"))
    nobody = AuthenticatedClient(given["url"], "aw_wrong")
    unknown = create_collection.sync(client=nobody, body=models.CollectionCreate(name="Not allowed"))
    json.dump(
        {
            "inserted": job.entities_inserted,
            "first": found.results[0].name,
            "deleted": deleted.id == made.id,
            "errors": [describe(each) for each in (refused, absent, unknown)],
        },
        sys.stdout,
    )


def describe(error: Any) -> list[str]:
    """The model of an error, and what it says."""
    return [type(error).__name__, json.dumps(error.to_dict())]


main()
