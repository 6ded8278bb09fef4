"""A hundred thousand tiny files."""

from running import Running


def test_a_hundred_thousand_tiny_files_are_synced_and_then_kept(running: Running) -> None:
    server = running.start(EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="0")
    folder, collection = server.folder(), server.collection()
    for place in range(100):
        inside = folder / f"d{place:02}"
        inside.mkdir()
        for number in range(1_000):
            (inside / f"{number}.txt").write_text(f"tiny{place}x{number}")
    connection = server.connect(collection, "folder", {"path": str(folder)})
    job = server.sync(connection, 300)
    assert (job["status"], job["entities_inserted"]) == ("completed", 100_000)
    assert server.found(collection, "tiny42x999", limit=1) == ["d42/999.txt"]
    again = server.sync(connection, 60)
    assert (again["entities_kept"], again["entities_updated"]) == (100_000, 0)
