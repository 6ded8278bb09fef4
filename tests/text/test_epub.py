"""Books as they are found: chapters that are missing, damaged or encrypted, and pages that no chapter list names."""

import io
import zipfile

import pytest

from airweave_server.text import documents
from airweave_server.text.parts import Extracted, LeftOut, NoText, Unparseable

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
    'full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
PAGE = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>T</title></head><body>{}</body></html>'


def item(id: str, href: str, kind: str = "application/xhtml+xml", properties: str = "") -> str:
    return f'<item id="{id}" href="{href}" media-type="{kind}" properties="{properties}"/>'


def book(pages: dict[str, str], items: list[str], order: list[str], **more: str) -> bytes:
    package = (
        '<?xml version="1.0"?>{doctype}<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}</manifest><spine>'
        "{order}</spine></package>"
    ).format(
        doctype=more.get("doctype", ""),
        items="".join(items),
        order="".join(f'<itemref idref="{id}"/>' for id in order),
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("OEBPS/book.opf", package)
        if "encryption" in more:
            archive.writestr("META-INF/encryption.xml", more["encryption"])
        for name, said in pages.items():
            archive.writestr(name, PAGE.format(said))
    return file.getvalue()


def read(data: bytes) -> Extracted:
    found = documents.read(io.BytesIO(data), filename="a.epub")
    assert isinstance(found, Extracted), found
    return found


def encryption(*parts: tuple[str, str]) -> str:
    return "<encryption xmlns='urn:oasis:names:tc:opendocument:xmlns:container'>{}</encryption>".format(
        "".join(
            f"<e:EncryptedData xmlns:e='http://www.w3.org/2001/04/xmlenc#'><e:EncryptionMethod Algorithm='{how}'/>"
            f"<e:CipherData><e:CipherReference URI='{uri}'/></e:CipherData></e:EncryptedData>"
            for uri, how in parts
        )
    )


TWO = {"OEBPS/a.xhtml": "<p>Words of A.</p>", "OEBPS/b.xhtml": "<p>Words of B.</p>"}
ITEMS = [item("a", "a.xhtml"), item("b", "b.xhtml")]
AES = "http://www.w3.org/2001/04/xmlenc#aes256-cbc"


def test_a_chapter_that_is_missing_is_said_and_the_others_are_read() -> None:
    items = [*ITEMS, item("c", "text/c.xhtml")]
    found = read(book(TWO, items, ["a", "c", "b", "nowhere"]))
    assert found.text == "# T\n\nWords of A.\n\n# T\n\nWords of B.\n\n"
    assert found.left_out == (
        LeftOut("chapter", ("text/c.xhtml",)),
        LeftOut("chapter", note="a chapter is listed without a file"),
    )


def test_a_chapter_that_is_damaged_is_said_and_the_others_are_read() -> None:
    data = bytearray(book({**TWO, "OEBPS/b.xhtml": "<p>" + "Words of B. " * 200 + "</p>"}, ITEMS, ["a", "b"]))
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        place = archive.getinfo("OEBPS/b.xhtml").header_offset + 60
    data[place : place + 20] = bytes(20)
    found = read(bytes(data))
    assert "Words of A." in found.text
    assert [(one.what, one.where) for one in found.left_out] == [("chapter", ("b.xhtml",))]


def test_an_encrypted_chapter_is_said_and_fonts_do_not_matter() -> None:
    parts = encryption(("OEBPS/b.xhtml", AES), ("OEBPS/font.otf", "http://www.idpf.org/2008/embedding"))
    found = read(book(TWO, ITEMS, ["a", "b"], encryption=parts))
    assert "Words of A." in found.text
    assert "Words of B." not in found.text
    assert found.left_out == (LeftOut("encrypted", ("b.xhtml",)),)
    fonts = encryption(("OEBPS/font.otf", "http://ns.adobe.com/pdf/enc#RC"))
    assert not read(book(TWO, ITEMS, ["a", "b"], encryption=fonts)).left_out
    locked = encryption(("OEBPS/a.xhtml", AES), ("OEBPS/b.xhtml", AES))
    found_none = documents.read(io.BytesIO(book(TWO, ITEMS, ["a", "b"], encryption=locked)), filename="a.epub")
    assert isinstance(found_none, NoText)
    assert found_none.reason == "encrypted"


@pytest.mark.parametrize("href", ["text/%C3%BCber%20uns.xhtml", "text/über uns.xhtml", "TEXT/Über Uns.xhtml#top"])
def test_names_of_chapters_are_found_as_they_are_written(href: str) -> None:
    found = read(book({"OEBPS/text/über uns.xhtml": "<p>Words.</p>"}, [item("a", href)], ["a"]))
    assert "Words." in found.text
    assert not found.left_out


def test_the_table_of_contents_is_not_doubled_and_pages_that_nobody_lists_are_read() -> None:
    pages = {
        **TWO,
        "OEBPS/nav.xhtml": "<nav><ol><li>Chapter A</li></ol></nav>",
        "OEBPS/notes.xhtml": "<aside>A note on A.</aside>",
    }
    items = [item("n", "nav.xhtml", properties="nav"), *ITEMS, item("x", "notes.xhtml")]
    items += [item("i", "cover.jpg", "image/jpeg", "cover-image"), item("ncx", "toc.ncx", "application/x-dtbncx+xml")]
    found = read(book(pages, items, ["n", "b", "a"]))
    assert "Chapter A" not in found.text
    places = [found.text.index(words) for words in ("Words of B.", "Words of A.", "A note on A.")]
    assert places == sorted(places)
    assert found.left_out == (LeftOut("image", count=1),)


def test_all_parts_of_a_chapter_are_read() -> None:
    said = (
        "<header>Head words.</header><main><p>" + "Main words. " * 50 + "</p><aside>A footnote.</aside></main>"
        '<div class="sidebar">Beside it.</div><footer>Foot words.</footer>'
    )
    text = read(book({"OEBPS/a.xhtml": said}, [item("a", "a.xhtml")], ["a"])).text
    for words in ("Head words.", "Main words.", "A footnote.", "Beside it.", "Foot words."):
        assert words in text


def test_a_document_type_without_declarations_is_harmless_and_others_are_refused() -> None:
    doctype = '<!DOCTYPE package PUBLIC "+//ISBN 0-9673008-1-9//DTD OEB 1.2 Package//EN" "oebpkg12.dtd">'
    assert "Words of A." in read(book(TWO, ITEMS, ["a"], doctype=doctype)).text
    with pytest.raises(Unparseable, match="document type"):
        read(book(TWO, ITEMS, ["a"], doctype='<!DOCTYPE package [<!ENTITY a "b">]>'))
