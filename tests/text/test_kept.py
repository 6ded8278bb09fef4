"""Parts of a document are unpacked once, and what is damaged is read as far as it goes."""

import io
import zipfile
import zlib
from typing import IO, Any

import pytest

import formats
from airweave_server.text import documents, kept
from airweave_server.text.kept import Kept
from airweave_server.text.parts import Extracted


def packed(**parts: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return made.getvalue()


def test_a_part_is_kept() -> None:
    with Kept(io.BytesIO(packed(a=b"words", b=b"more"))) as archive:
        assert archive.open("a").read() == archive.read("a") == b"words"
        assert list(archive.parts.values()) == [b"words"]
    assert archive.parts[kept.place(archive.getinfo("a"))] == b"words"


def test_no_more_is_kept_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_KEPT_BYTES", 10)
    with Kept(io.BytesIO(packed(a=b"8 bytes.", b=b"more"))) as archive:
        assert archive.read("a") + archive.read("b") == b"8 bytes.more"
        assert list(archive.parts.values()) == [b"8 bytes."]
        archive.forget()
        assert archive.read("a") == b"8 bytes."
        assert not archive.parts


def test_a_damaged_part_is_read_up_to_the_damage() -> None:
    data = bytearray(packed(a=bytes(range(256)) * 1_000))
    data[data.index(b"PK\x01\x02") - 5] ^= 0xFF
    with Kept(io.BytesIO(bytes(data))) as archive, archive.open("a") as part:
        assert part.read(1_000) == (bytes(range(256)) * 4)[:1_000]
        with pytest.raises((zipfile.BadZipFile, zlib.error)):
            part.read()
    assert not archive.parts


@pytest.mark.parametrize("name", ["a.docx", "a.pptx", "a.odt", "a.epub"])
def test_a_document_is_unpacked_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its reader, and for the count of its words."""
    data = next(make() for known, (make, *_) in formats.FORMATS.items() if known.endswith(name[1:]))
    opened: list[str] = []
    plain = zipfile.ZipFile.open

    def count(archive: zipfile.ZipFile, part: str | zipfile.ZipInfo, *more: Any, **others: Any) -> IO[bytes]:
        opened.append(part.filename if isinstance(part, zipfile.ZipInfo) else part)
        return plain(archive, part, *more, **others)

    monkeypatch.setattr(zipfile.ZipFile, "open", count)
    assert isinstance(documents.read(io.BytesIO(data), filename=name), Extracted)
    assert opened
    assert len(opened) == len(set(opened))
