"""Litter of systems and programs is skipped with its reason; a document with such a name is read; a link is a link."""

import io
import json
import plistlib
import struct
import zipfile

import pytest

import formats
from airweave_server.sdk import Entity
from airweave_server.text import documents
from airweave_server.text.extract import extract
from airweave_server.text.litter import find_litter
from airweave_server.text.parsers import Parsers
from airweave_server.text.parts import Extracted, NoText
from airweave_server.text.reading import Reader

APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(60)
SHORTCUT = b"L\0\0\0\1\x14\2\0\0\0\0\0\xc0\0\0\0\0\0\0F" + bytes(60)
OWNER = b"\x0bAnn Example" + b" " * 43 + "\x0bAnn".encode("utf-16-le") + bytes(60)

LITTER = {
    "~$report.docx": (OWNER, "a lock file of Office"),
    "~$Budget.XLSX": (OWNER, "a lock file of Office"),
    "~$ides.pptx": (OWNER, "a lock file of Office"),
    ".~lock.letter.odt#": (b",ann,ship,27.11.2026 10:00,file:///home/ann;", "a lock file of LibreOffice"),
    "._notes.txt": (APPLE_DOUBLE, "a resource fork of macOS"),
    "._empty": (b"", "a resource fork of macOS"),
    "renamed.txt": (APPLE_DOUBLE, "a resource fork of macOS"),
    ".DS_Store": (b"\0\0\0\1Bud1" + bytes(50), "a folder view of macOS"),
    "Thumbs.db": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "previews of Windows"),
    "ehthumbs.db": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "previews of Windows"),
    "desktop.ini": (b"[.ShellClassInfo]\r\nIconResource=x\r\n", "a folder view of Windows"),
    "Desktop.ini": ("\ufeff[ViewState]\r\nMode=\r\n".encode("utf-16-le"), "a folder view of Windows"),
    "Letter.lnk": (SHORTCUT, "a link of Windows"),
    "Letter alias": (b"book\0\0\0\0mark\0\0\0\0" + bytes(40), "a link of macOS"),
    "Icon\r": (b"", "an icon of macOS"),
    ".localized": (b"", "a folder mark of macOS"),
    "~WRL0001.tmp": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "a temporary file of Word"),
    ".notes.md.swp": (b"b0VIM 9.0" + bytes(100), "a swap file of Vim"),
    "#notes.md#": (b"words", "an autosave of Emacs"),
    ".#notes.md": (b"ann@ship.4711:1700000000", "a lock file of Emacs"),
    "film.pdf.crdownload": (b"%PDF-1.4 half of it", "an unfinished download"),
    "film.pdf.part": (b"%PDF\0", "an unfinished download"),
    ".nfs0000000000a1b2c300000001": (b"words", "a deleted file that is still open"),
    ".Report.pdf.icloud": (b"bplist00" + bytes(50), "a mark of iCloud, which keeps the document elsewhere"),
    ".directory": (b"[Desktop Entry]\nIcon=folder\n", "a folder view of KDE"),
}


@pytest.mark.parametrize(("name", "data", "what"), [(name, *of) for name, of in LITTER.items()], ids=range(len(LITTER)))
def test_litter_is_skipped_with_its_reason(name: str, data: bytes, what: str) -> None:
    entity = Entity(id=f"box/{name}", name=name, type="File", filename=name, open=lambda: io.BytesIO(data))
    assert Reader(Parsers(seconds=1, memory_mb=400)).read(entity) == NoText(f"litter: {what}")
    archive = formats.zipped({f"box/{name}": data, "box/real.txt": b"words"})
    found = documents.read(io.BytesIO(archive), filename="a.zip")
    assert isinstance(found, Extracted)
    assert [section.label for section in found.sections] == ["box/real.txt"]
    assert found.left_out == ()


@pytest.mark.parametrize(
    "folder", ["$RECYCLE.BIN", ".Trashes", "@eaDir", ".Spotlight-V100", "System Volume Information", "__MACOSX"]
)
def test_what_is_in_a_folder_of_litter_is_litter(folder: str) -> None:
    entity = Entity(id=f"a/{folder}/b/c.txt", name="c.txt", type="File", open=lambda: io.BytesIO(b"words"))
    found = Reader(Parsers(seconds=1, memory_mb=400)).read(entity)
    assert isinstance(found, NoText)
    assert found.reason.startswith("litter: in ")
    archive = formats.zipped({f"a/{folder}/b/c.txt": b"words", "d.txt": b"more"})
    read = documents.read(io.BytesIO(archive), filename="a.zip")
    assert isinstance(read, Extracted)
    assert "words" not in read.text


def zip_file() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "words")
    return file.getvalue()


DOCUMENTS = {
    "thumbs.db.md": b"# How to remove it",
    "Thumbs.db": b"a text that somebody named so",
    "~notes.txt": b"words",
    "~$todo.txt": b"words",
    "~$report.docx": zip_file(),
    "desktop.ini": b"[settings]\na = 1\n",
    "._notes.txt": b"a text that somebody named so",
    "report.sync-conflict-20260101-101010-ABCDEFG.md": b"words",
    "chapter.part": b"the first part of a text",
    "letter.lnk": b"a text about links",
    "notes.tmp": b"words",
    "4913": b"words",
    "#1 song.md": b"words",
    "b0VIM.txt": b"b0VIM begins a swap file",
    ".directory": b"a list of names",
}


@pytest.mark.parametrize(("name", "data"), DOCUMENTS.items(), ids=DOCUMENTS)
def test_a_document_with_such_a_name_is_read(name: str, data: bytes) -> None:
    assert find_litter(data, name) is None


LINK = "https://example.com/a?q=1&key=x"
LINKS = {
    "Shop.url": (f"[InternetShortcut]\r\nIDList=\r\nURL={LINK}\r\nIconIndex=0\r\n".encode(), f"Shop: {LINK}"),
    "Größe.url": (f"[{{000214A0}}]\r\nProp3=19,2\r\n[InternetShortcut]\r\nURL={LINK}\r\n".encode(), f"Größe: {LINK}"),
    "Old.website": (f"\ufeff[InternetShortcut]\r\nURL={LINK}\r\n".encode("utf-16-le"), f"Old: {LINK}"),
    "Page.webloc": (plistlib.dumps({"URL": LINK}), f"Page: {LINK}"),
    "Other.webloc": (plistlib.dumps({"URL": LINK}, fmt=plistlib.FMT_BINARY), f"Other: {LINK}"),
    "Plan.gdoc": (json.dumps({"url": LINK, "doc_id": "x", "email": "a@example.com"}).encode(), f"Plan: {LINK}"),
    "Sums.gsheet": (
        json.dumps({"": "WARNING! DO NOT EDIT", "doc_id": "1aB", "email": "a@example.com"}).encode(),
        "Sums: https://docs.google.com/spreadsheets/d/1aB",
    ),
    "x.desktop": (f"[Desktop Entry]\nType=Link\nName=The shop\nURL={LINK}\n".encode(), f"The shop: {LINK}"),
}


@pytest.mark.parametrize(("name", "data", "text"), [(name, *of) for name, of in LINKS.items()], ids=LINKS)
def test_a_link_file_is_a_name_and_a_link(name: str, data: bytes, text: str) -> None:
    found = extract(data, filename=f"folder/{name}")
    assert found == Extracted(text, "text", formats=frozenset({"link"}))


def test_what_only_has_the_name_of_a_link_is_read_as_what_it_is() -> None:
    for name, data, kind in (
        ("a.url", b"just words", "text"),
        ("a.webloc", b"<plist>broken", "text"),
        ("a.gdoc", b'{"a": 1}', "json"),
        ("a.desktop", b"[Desktop Entry]\nType=Application\nName=Editor\n", "text"),
    ):
        found = extract(data, filename=name)
        assert isinstance(found, Extracted)
        assert found.kind == kind
    bomb = (
        b'<?xml version="1.0"?><!DOCTYPE p [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><plist><string>&b;</string></plist>'
    )
    assert isinstance(extract(bomb, filename="a.webloc"), Extracted)
    deep = b"bplist00" + struct.pack(">BB", 0xA1, 0) + b"\x08" + bytes(6) + b"\1\1" + struct.pack(">QQQ", 1, 0, 10)
    assert isinstance(extract(deep, filename="a.webloc"), NoText)
