"""``airweave-server evaluate`` against a real server: the figures, both comparisons, the losses, and refusals."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from running import Finished, Running, Server, ok, refusal

DOCUMENTS = {
    "bees.md": "# Bees\n\nBees return to their hive at dusk, and dance to say where the heather is.",
    "ants.md": "# Ants\n\nAnts store seeds in chambers below the ground.",
    "net/lease.md": "# Leases\n\nA lease of an address lasts for a day; afterwards the client asks again.",
    "net/errors.md": "# Errors\n\nERR_4711 means that the cable is not plugged in.",
    "spa.md": "# Rest\n\nGuests lie in warm water until the evening.",
}
QUERIES: list[dict[str, Any]] = [
    {"query": "ERR_4711", "right": "net/errors.md"},
    {"query": "how long does a lease last", "right": ["net/lease.md"]},
    {"query": "hive at dusk", "right": {"bees.md": 2, "ants.md": 0}},
    {"query": "address of the client", "right": "net/*"},
]
LOST: dict[str, Any] = {"query": "seeds in chambers", "right": {"bees.md": 1}}  # ants.md is found first
UNHEARD = {"query": "qwxzvkj", "right": "spa.md"}  # keyword finds nothing at all
GONE = {"query": "moss below the ground", "right": "moss.md"}


@pytest.fixture(scope="module")
def meadow(server: Server) -> str:
    folder = server.folder("evaluated")
    for name, text in DOCUMENTS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for collection in ("meadow", "heath"):
        server.sync(server.connect(server.collection(collection), "folder", {"path": str(folder)}))
    return "meadow"


@pytest.fixture
def evaluated(running: Running, server: Server, meadow: str, tmp_path: Path) -> Any:
    def run(queries: list[dict[str, Any]], *options: str) -> Finished:
        path = tmp_path / "golden.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in queries))
        return running.command(
            "evaluate", str(path), "-c", meadow, *options, API_URL=server.url, COLUMNS="200", NO_COLOR="1"
        )

    return run


def figures(done: Finished) -> dict[str, Any]:
    return dict(json.loads(ok(done)))


def test_where_all_is_right_there_are_no_losses(evaluated: Any) -> None:
    shown = ok(evaluated(QUERIES))
    assert shown.startswith("4 queries\n")
    [row] = re.findall(r"hybrid in meadow \(wordllama-256\) .*", shown)
    assert re.findall(r"[\d.]+", row.partition(")")[2]) == ["1.000", "1.000", "1.000", "4", "0", "0"]
    assert "first hit is wrong" not in shown
    assert "Not indexed in" not in shown


def test_a_loss_says_where_the_right_document_is_and_what_came_first(evaluated: Any) -> None:
    shown = ok(evaluated([*QUERIES, LOST], "--strategy", "semantic"))
    at = shown.index("The first hit is wrong: 1\nline 5: seeds in chambers\n")
    assert re.search(r"   bees\.md is at place [2-5]\n   first is ants\.md\n", shown[at:])
    [loss] = figures(evaluated([*QUERIES, LOST], "--json"))["losses"]
    assert (loss["line"], loss["first"], loss["is_worse"]) == (5, ["ants.md"], False)
    [right] = loss["right"]
    assert right["id"] == "bees.md"
    assert 2 <= right["ranks"][0] <= 5
    narrow = ok(evaluated([LOST], "--limit", "1"))
    assert "nDCG@1" in narrow
    assert "bees.md is not in the first 1" in narrow


def test_two_strategies_side_by_side(evaluated: Any) -> None:
    queries = [*QUERIES, UNHEARD]
    found = figures(evaluated(queries, "--strategy", "keyword", "--against", "semantic", "--json"))
    keyword, semantic = found["sides"]
    assert (keyword["strategy"], semantic["strategy"]) == ("keyword", "semantic")
    assert (keyword["without_hit"], semantic["without_hit"]) == (1, 0)
    assert keyword["first_is_right"] == 4
    assert keyword["ndcg"] == pytest.approx(0.8)
    difference = found["differences"]["ndcg"]
    assert difference["mean"] == pytest.approx(keyword["ndcg"] - semantic["ndcg"])
    assert difference["low"] <= difference["mean"] <= difference["high"]
    [worse] = [one for one in found["losses"] if one["is_worse"]]
    assert (worse["query"], worse["first"][0]) == ("qwxzvkj", None)
    assert worse["right"][0]["ranks"][0] is None
    shown = ok(evaluated(queries, "--strategy", "keyword", "--against", "semantic"))
    assert re.search(r"nDCG@10: [+-]0\.\d{3} \(95 % between [+-]\d\.\d{3} and [+-]\d\.\d{3}", shown)
    assert "\n\nWorse than semantic in meadow (wordllama-256): 1\nline 5: qwxzvkj\n" in shown
    assert re.search(r"spa\.md is not in the first 10, there at place \d\n   nothing was found\n", shown)


def test_two_collections_with_two_embedders_side_by_side(evaluated: Any, running: Running, server: Server) -> None:
    ok(running.command("reembed", "heath", "--to", "minilm", API_URL=server.url))
    [connection] = server.get("/source-connections", collection="heath")
    folder = server.folder("evaluated-more")
    (folder / "moss.md").write_text("# Moss\n\nMoss grows below the ground cover of the wood, near seeds.")
    server.sync(server.connect("heath", "folder", {"path": str(folder)}))
    assert connection["entity_count"] == len(DOCUMENTS)
    found = figures(evaluated([*QUERIES, GONE], "--against-collection", "heath", "--json"))
    assert [(one["collection"], one["embedder"]) for one in found["sides"]] == [
        ("meadow", "wordllama-256"),
        ("heath", server.get("/collections/heath")["embedding_model_name"]),
    ]
    assert found["sides"][1]["embedder"] != "wordllama-256"
    assert found["sides"][1]["first_is_right"] == 5
    assert found["absent"] == [{"collection": "meadow", "line": 5, "right": "moss.md"}]
    assert [(one["query"], one["is_worse"]) for one in found["losses"]] == [(GONE["query"], True)]
    shown = ok(evaluated([*QUERIES, GONE], "--against-collection", "heath"))
    assert "Not indexed in meadow, so no search can find them: moss.md (line 5)" in shown
    assert "moss.md is not in the first 10, there at place 1" in shown


def test_a_table_is_read_too(running: Running, server: Server, meadow: str, tmp_path: Path) -> None:
    path = tmp_path / "golden.csv"
    path.write_text("query;right;grade\nERR_4711;net/errors.md;1\nERR_4711;bees.md;0\n", encoding="utf-8-sig")
    done = running.command("evaluate", str(path), "-c", meadow, "--json", API_URL=server.url)
    assert figures(done)["sides"][0]["first_is_right"] == 1


def test_what_is_wrong_is_one_line(evaluated: Any, running: Running, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"query": "a", "right": "b"}\n{"query": "a\\u0007"}\n')
    assert "bad.jsonl, line 2: right must be" in refusal(running.command("evaluate", str(path), API_URL=server.url))
    assert "No such file" in refusal(running.command("evaluate", str(tmp_path / "none"), API_URL=server.url))
    assert "both sides are the same" in refusal(evaluated(QUERIES, "--against", "hybrid"))
    assert "nowhere" in refusal(evaluated(QUERIES, "--against-collection", "nowhere"))


def test_a_name_does_not_control_the_terminal(evaluated: Any) -> None:
    hostile = {"query": "hive \x1b]0;owned\x07 [bold]", "right": "\u202e*"}
    shown = ok(evaluated([hostile]))
    assert "\x1b" not in shown
    assert r"hive \x1b]0;owned\x07 [bold]" in shown
    assert r"\u202e* is not in the first 10" in shown
