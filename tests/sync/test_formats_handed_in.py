"""Text that says what it is: HTML is read as HTML, plain text and Markdown as they are."""

from running import Server
from servers.scripted_server import ScriptedServer

HTML = """<html><head><title>Ways of the quokka</title><style>.quokkastyle { color: red }</style></head>
<body class="quokkaclass"><h1>Island &amp; sea</h1><script>quokkascript()</script>
<p>It lives on <b>rott</b>nest &lt;island&gt;.</p><ul><li>first leaf</li></ul></body></html>"""


def test_html_that_is_handed_in_is_read_as_html(server: Server, source: ScriptedServer) -> None:
    source.partitions["a"] = [
        {"id": "page", "text": HTML, "format": "html"},
        {"id": "plain", "text": "a <quokkatag> of *plain* wombats", "format": "plain"},
        {"id": "markdown", "text": "# Numbats\n\nUse `<quokkatag>` and **numbats**."},
        {"id": "empty", "text": "<p>&nbsp;</p><script>quokkascript()</script>", "format": "html"},
        {"id": "unknown", "text": "wallabies", "format": "rtf"},
    ]
    collection = server.collection()
    connection = server.connect_to(source, collection=collection)
    job = server.sync(connection)
    assert job["status"] == "completed"
    ledger = server.ledger(connection)
    assert {id: entry["state"] for id, entry in ledger.items()} == {
        "page": "indexed",
        "plain": "indexed",
        "markdown": "indexed",
        "empty": "skipped",
        "unknown": "failed",
    }
    assert ledger["empty"]["reason"] == "empty"
    assert ledger["unknown"]["reason"] == "malformed: the format is 'rtf', not one of markdown, plain, html"

    def words(query: str) -> list[str]:
        return server.found(collection, query, retrieval_strategy="keyword")

    for hidden in ("quokkastyle", "quokkaclass", "quokkascript", "body", "li"):
        assert words(hidden) == [], hidden
    assert words("rottnest") == ["page"], "a tag inside of a word does not part it"
    assert words("wombats") == ["plain"]
    text = "\n".join(hit["textual_representation"] for hit in server.search(collection, "rottnest island leaf wombats"))
    assert "Island & sea" in text
    assert "rottnest <island>" in text
    assert "a <quokkatag> of *plain* wombats" in text
    assert all(tag not in text for tag in ("<p>", "<b>", "</", "<li", "&amp;", "<html"))
