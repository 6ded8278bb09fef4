"""Word and PowerPoint files from before 2007 are read completely.

LibreOffice wrote the files in ``fixtures``, from documents made for these tests with python-docx, odfpy and
python-pptx. The other files are built here, record by record.
"""

import gzip
import io
import random
import struct
import time
import zlib
from pathlib import Path

import olefile
import pytest

import formats
from airweave_server.text import documents
from airweave_server.text.parts import Extracted, LeftOut, NoText, Unparseable
from compound import compound

FIXTURES = Path(__file__).parent / "fixtures"


def fixture(name: str) -> bytes:
    return gzip.decompress((FIXTURES / f"{name}.gz").read_bytes())


def read(data: bytes, filename: str) -> Extracted:
    found = documents.read(io.BytesIO(data), filename=filename)
    assert isinstance(found, Extracted), found
    return found


def labelled(found: Extracted) -> dict[str, str]:
    ends = [section.start for section in found.sections[1:]] + [len(found.text)]
    return {
        section.label: found.text[section.start : end].strip()
        for section, end in zip(found.sections, ends, strict=True)
    }


REPORT = """\
HEADERWORD

# Budget report

## Sub part

Plain text with bold and Привет 東京 ελληνικά x < y & z_a \\ back * star.

Before tabbed
nextline-joined cooperate a b

1. first
2. second
- bul one
- bul two

| CellA | CellB\\|pipe |
| CellC | CellD NestA, NestB after nest |

After table

Tracked: INSERTEDWORD end

Tracked: end

Hidden HIDDENWORD

Commented word

[Comment by Ann Lee: COMMENTWORD here]

Field LINKRESULT tail

LeftOfBox RightOfBox
"""


def test_a_word_document_is_read_with_all_that_is_on_its_pages() -> None:
    found = read(fixture("report.doc"), "report.doc")
    assert found.text.startswith(REPORT)
    assert found.text.rstrip().endswith("Formula formula end\n\nBOXWORD inside\n\nFOOTERWORD")
    assert found.left_out == (LeftOut("formula"),)
    assert found.formats == {"doc"}


def test_the_same_as_rtf_says_the_same() -> None:
    found = read(fixture("report.rtf"), "report.rtf")  # LibreOffice writes no box into it
    assert found.text.startswith(REPORT)
    assert found.text.rstrip().endswith("Formula (alpha)/(beta) formula end\n\nFOOTERWORD")


@pytest.mark.parametrize("name", ["form.doc", "form.rtf"])
def test_forms_symbols_ruby_moves_and_boxes_are_read(name: str) -> None:
    found = read(fixture(name), name)
    for said in (
        "Colour: GREENENTRY end.\n\nName: TYPEDNAME end.\n\n1. deep List Number 2\n- deep List Bullet 2",
        "Ruby RUBYTEXT BASETEXT end\n\nSym α end\n\nMoved mid MOVEDWORD\n\n",
        "joined next\n\nDmlBefore DmlAfter\n\nDMLBOX one\n\nDMLBOX two",
    ):
        assert said in found.text
    assert found.left_out == ()


def test_footnotes_and_endnotes_of_a_word_document_are_told_apart() -> None:
    assert read(fixture("notes.doc"), "notes.doc").text.strip() == (
        "# Odt heading\n\nPara with note[^1] mid[^e1] end.\n\n[^1]: FOOTNOTEONE words\n\n[^e1]: ENDNOTEONE words\n\n"
        "Second[^2]\n\n[^2]: FOOTNOTETWO words\n\n- li one\n- li two"
    )


def test_slides_are_read_with_tables_groups_and_notes() -> None:
    found = labelled(read(fixture("slides.ppt"), "slides.ppt"))
    assert found == {
        "Slide 1": "# Title 1\n\nPoint 1 Привет\nSecond point\nFREEBOX1 – dash\n\nNotes:\nNOTES1 words",
        "Slide 2": "# Title 2\n\nPoint 2 Привет\nSecond point\nFREEBOX2 – dash\n| T00 | T01 |\n| T10 | T11 |\nINGROUP"
        "\n\nNotes:\nNOTES2 words",
    }


# Word


def word(*pieces: tuple[bytes, bool], flags: int = 0x0200, characters: bytes = b"", drawings: bytes = b"") -> bytes:
    """A document of pieces of text, each in one byte a character (True) or two. ``characters``: a page of their
    properties, for which bounds of 0 stand for where the text starts and 1 for one byte more."""
    start = 0x600
    text, table, places = b"", b"", [0]
    for data, is_narrow in pieces:
        at = start + len(text)
        table += struct.pack("<HIH", 0, at * 2 | 0x40000000 if is_narrow else at, 0)
        places.append(places[-1] + len(data) // (1 if is_narrow else 2))
        text += data + bytes(len(data) % 2)
    clx = struct.pack("<BI", 2, 4 * len(places) + len(table)) + struct.pack(f"<{len(places)}I", *places) + table
    head = bytearray(start)
    struct.pack_into("<HHHHHH", head, 0, 0xA5EC, 0xC1, 0, 0x409, 0, flags)
    struct.pack_into("<i", head, 0x4C, places[-1])
    struct.pack_into("<H", head, 0x98, 93)
    struct.pack_into("<II", head, 0x1A2, 0, len(clx))
    if drawings:
        struct.pack_into("<II", head, 0x9A + 8 * 50, len(clx), len(drawings))
        clx += drawings
    stream = bytes(head) + text
    if characters:
        stream = stream.ljust(-(-len(stream) // 512) * 512, b"\0")
        struct.pack_into("<III", (runs := bytearray(12)), 0, start, start + len(text), len(stream) // 512)
        head[0x9A + 8 * 12 : 0x9A + 8 * 12 + 8] = struct.pack("<II", len(clx), len(runs))
        stream = bytes(head) + stream[start:] + characters
        clx += bytes(runs)
    return compound({"WordDocument": stream, "1Table": clx})


def page(*runs: tuple[int, bytes]) -> bytes:
    """A page of properties: (up to which byte of the text, changes)."""
    bounds = [0x600, *(0x600 + end for end, _ in runs)]
    made = bytearray(512)
    struct.pack_into(f"<{len(bounds)}I", made, 0, *bounds)
    place = 480
    for number, (_, changes) in enumerate(runs):
        if changes:
            made[place : place + 1 + len(changes)] = bytes([len(changes)]) + changes
            made[4 * len(bounds) + number] = place // 2
            place -= 20
    made[511] = len(runs)
    return bytes(made)


def test_pieces_of_both_widths_are_put_together_in_order() -> None:
    data = word((b"Caf\xe9 \x93quoted\x94 ", True), ("Привет 😀 ".encode("utf-16-le"), False), (b"end.\r", True))
    assert read(data, "a.doc").text.strip() == "Café “quoted” Привет 😀 end."


def test_deleted_text_is_dropped_and_symbols_are_read() -> None:
    deleted, symbol = struct.pack("<HB", 0x0800, 1), struct.pack("<HHH", 0x6A09, 0, 0x03B1)
    text = b"kept gone x(y\r"
    runs = page((5, b""), (10, deleted), (11, b""), (12, symbol), (14, b""))
    assert read(word((text, True), characters=runs), "a.doc").text.strip() == "kept xαy"


def test_word_art_is_read_from_the_drawings() -> None:
    art = "Word art\0".encode("utf-16-le")
    properties = atom(0xF00B, struct.pack("<HI", 0x80C0, len(art)) + art, 1)
    drawing = record(0xF002, record(0xF003, record(0xF004, properties)))
    data = word((b"Text \x08\x08here.\r", True), drawings=record(0xF000) + b"\0" + drawing)
    found = read(data, "a.doc")
    assert found.text.strip() == "Text here.\n\nWord art"
    assert found.left_out == (LeftOut("image"),)  # the other shape


def test_fields_of_word_show_their_result_only() -> None:
    said = b'A \x13 HYPERLINK "x" \x13 PAGE \x147\x15 \x14here\x15 b \x13 SYMBOL 97 \\f "Symbol" \x15 \x1ec\x1fd\xa0e\r'
    assert read(word((said, True)), "a.doc").text.strip() == "A here b α -cd e"
    assert read(word((b"A \x13 HYPERLINK never ends\r", True)), "a.doc").text.strip() == "A\n\nHYPERLINK never ends"


def test_word_6_is_read_in_the_code_page_of_its_language() -> None:
    text = "Привет.\rДва.\r".encode("cp1251")
    head = bytearray(0x300)
    struct.pack_into("<HHHHHH", head, 0, 0xA5DC, 101, 0, 0x419, 0, 0)
    struct.pack_into("<II", head, 0x18, 0x300, 0x300 + len(text))
    struct.pack_into("<i", head, 0x34, len(text))
    found = read(compound({"WordDocument": bytes(head) + text}), "a.doc")
    assert found.text.strip() == "Привет.\n\nДва."


def word_95(text: bytes, *, runs: tuple[tuple[int, int], ...], paragraphs: tuple[tuple[int, bytes], ...]) -> bytes:
    """A document of an English program with the fonts 0 (Western) and 1 (Cyrillic). ``runs``: (up to which byte of the
    text, font); ``paragraphs``: (up to which byte, properties)."""
    table = b"".join(
        bytes([len(name) + 6, 0x12, 0x90, 1, chs, 0]) + name + b"\0" for name, chs in ((b"A", 0), (b"B", 204))
    )
    start = 0x600
    pages = [bytearray(page(*((end, struct.pack("<BH", 93, font)) for end, font in runs)))]
    bounds = [start, *(start + end for end, _ in paragraphs)]
    made = bytearray(512)
    struct.pack_into(f"<{len(bounds)}I", made, 0, *bounds)
    for number, (_, changes) in enumerate(paragraphs):
        place = 400 - 20 * number
        made[place : place + 3 + len(changes)] = bytes([(len(changes) + 3) // 2, 0, 0]) + changes
        made[4 * len(bounds) + 7 * number] = place // 2
    made[511] = len(paragraphs)
    pages.append(made)
    stream = (bytes(start) + text).ljust(0x800, b"\0") + bytes(pages[0]) + bytes(pages[1])
    head = bytearray(stream)
    struct.pack_into("<HHHHHH", head, 0, 0xA5DC, 104, 0, 0x409, 0, 0)
    struct.pack_into("<II", head, 0x18, start, start + len(text))
    struct.pack_into("<i", head, 0x34, len(text))
    for number, part in (
        (12, struct.pack("<IIH", start, start + len(text), 4)),
        (13, struct.pack("<IIH", start, start + len(text), 5)),
        (15, struct.pack("<H", len(table) + 2) + table),
    ):
        struct.pack_into("<II", head, 0x58 + 8 * number, len(head), len(part))
        head += part
    return compound({"WordDocument": bytes(head)})


def test_word_95_is_read_in_the_charset_of_each_font_and_with_its_tables() -> None:
    text = b"Caf\xe9 " + "Привет".encode("cp1251") + b"\rA\x07B\x07\x07"
    cell, row = bytes([24, 1]), bytes([24, 1, 25, 1])
    data = word_95(
        text,
        runs=((5, 0), (11, 1), (len(text), 0)),
        paragraphs=((12, b"\x05\x00"), (14, cell), (16, cell), (17, row)),
    )
    assert read(data, "a.doc").text.strip() == "Café Привет\n\n| A | B |"


def test_an_encrypted_word_document_is_refused() -> None:
    assert documents.read(io.BytesIO(word((b"x\r", True), flags=0x0300)), filename="a.doc") == NoText(
        "encrypted", frozenset({"doc"})
    )


def test_documents_in_a_word_document_are_read() -> None:
    plain = word((b"Around it.\r", True))
    at = plain.index(b"\xec\xa5")
    native = b"\2\0note.txt\0C:\\note.txt\0\0\0\3\0\1\0\0\0\0" + struct.pack("<I", 13) + b"PACKAGEDWORDS"
    inner = word((b"Inner words.\r", True))
    inner_at = inner.index(b"\xec\xa5")
    with olefile.OleFileIO(io.BytesIO(formats.old_workbook())) as book:
        workbook = book.openstream("Workbook").read()
    data = compound(
        {
            "WordDocument": plain[at : at + 0x800],
            "1Table": struct.pack("<BIIIHIH", 2, 16, 0, 11, 0, 0x600 * 2 | 0x40000000, 0),
            "ObjectPool/_1/\x01Ole10Native": struct.pack("<I", len(native)) + native,
            "ObjectPool/_2/WordDocument": inner[inner_at : inner_at + 0x800],
            "ObjectPool/_2/1Table": struct.pack("<BIIIHIH", 2, 16, 0, 13, 0, 0x600 * 2 | 0x40000000, 0),
            "ObjectPool/_3/Equation Native": b"x",
            "ObjectPool/_4/Other": b"x",
            "ObjectPool/_5/Workbook": workbook,
        }
    )
    found = read(data, "a.doc")
    assert labelled(found) == {
        "": "Around it.",
        "note.txt": "PACKAGEDWORDS",
        "object": "Inner words.",
        "object > Sheet Old": "Name: apple; Amount: 3\nName: pear; Amount: 4",
    }
    assert {one.what for one in found.left_out} == {"formula", "object"}


# PowerPoint


def record(kind: int, *content: bytes, version: int = 0xF, instance: int = 0) -> bytes:
    data = b"".join(content)
    return struct.pack("<HHI", version | instance << 4, kind, len(data)) + data


def atom(kind: int, data: bytes, instance: int = 0) -> bytes:
    return record(kind, data, version=0, instance=instance)


def string(text: str, instance: int = 0) -> bytes:
    return atom(0x0FBA, text.encode("utf-16-le"), instance)


def shape(*content: bytes, kind: int = 1) -> bytes:
    return record(0xF004, atom(0xF00A, bytes(8), kind), *content)


def box(kind: int, text: str, *more: bytes) -> bytes:
    return record(0xF00D, atom(0x0F9F, struct.pack("<I", kind)), atom(0x0FA0, text.encode("utf-16-le")), *more)


def slide(*content: bytes, tags: bytes = b"") -> bytes:
    drawing = record(0x040C, record(0xF002, record(0xF003, *content)))
    return record(0x03EE, atom(0x03EF, bytes(24)), drawing, tags)


class Deck:
    """A presentation that is written edit by edit."""

    def __init__(self) -> None:
        self.stream = b""
        self.last = 0

    def edit(self, parts: dict[int, bytes], *, key: int | None = None) -> None:
        """Add parts by their ids, of which 1 is the document."""
        directory = b""
        for id, part in parts.items():
            directory += struct.pack("<II", 1 << 20 | id, len(self.stream))
            self.stream += part
        at = len(self.stream)
        self.stream += atom(0x1772, directory)
        before, self.last = self.last, len(self.stream)
        edit = struct.pack("<IIIIIII", 0, 3, before, at, 1, 99, 0)
        self.stream += atom(0x0FF5, edit + (b"" if key is None else struct.pack("<I", key)))

    def file(self, *, token: int = 0xE391C05F) -> bytes:
        user = atom(0x0FF6, struct.pack("<III", 20, token, self.last) + bytes(8))
        return compound({"PowerPoint Document": self.stream, "Current User": user})


def deck(*slides: bytes, document: bytes = b"", more: dict[int, bytes] | None = None) -> Deck:
    made = Deck()
    places = b"".join(atom(0x03F3, struct.pack("<5I", 10 + n, 0, 0, 256 + n, 0)) for n in range(len(slides)))
    parts = {1: record(0x03E8, document, record(0x0FF0, places))}
    made.edit(parts | {10 + n: one for n, one in enumerate(slides)} | (more or {}))
    return made


def test_the_newest_edit_of_a_presentation_is_read() -> None:
    made = deck(slide(shape(box(0, "Old title"))), slide(shape(box(1, "Second"))))
    made.edit({10: slide(shape(box(0, "New\x0btitle")), shape(box(1, "One\rTwo")))})
    assert labelled(read(made.file(), "a.ppt")) == {"Slide 1": "# New title\n\nOne\nTwo", "Slide 2": "Second"}


def test_a_broken_chain_of_edits_does_not_lose_the_outline() -> None:
    found = read(formats.old_slides(), "a.ppt")
    assert labelled(found) == {"Slide 1": "# Old slides\n\nA point of them."}


def test_comments_headers_word_art_and_stand_ins_of_slides() -> None:
    comment = record(0x2EE0, string("Ann Lee"), string("Is it so?", 1), string("AL", 2), atom(0x2EE1, bytes(28)))
    tags = record(0x1388, record(0x138A, string("___PPT10"), atom(0x138B, comment)))
    art = "Word art\0".encode("utf-16-le")
    properties = atom(0xF00B, struct.pack("<HI", 0x80C0, len(art)) + art, 1)
    footers = record(
        0x0FD9, atom(0x0FDA, struct.pack("<HH", 0, 0x20)), string("Acme Inc", 2), string("hidden", 1), instance=3
    )
    number = box(4, "Page *", atom(0x0FD8, struct.pack("<I", 5)))
    picture = shape(kind=75)
    found = read(
        deck(
            slide(shape(box(1, "Body")), shape(properties), picture, shape(number), tags=tags),
            slide(shape(box(1, "Next"))),
            document=footers,
        ).file(),
        "a.ppt",
    )
    assert labelled(found) == {
        "Slide 1": "Body\nWord art\nPage\n[Comment by Ann Lee: Is it so?]\nAcme Inc",
        "Slide 2": "Next",
    }
    assert found.left_out == (LeftOut("image", ("Slide 1",)),)


def test_documents_in_a_presentation_are_read_under_their_slide() -> None:
    inner = word((b"Embedded words.\r", True))
    packed = atom(0x1011, struct.pack("<I", len(inner)) + zlib.compress(inner), 1)
    entry = atom(0x0FC3, struct.pack("<6I", 1, 0, 7, 0, 20, 0))
    listed = record(0x0409, record(0x0FCC, entry, string("Word.Document.8", 2)))
    shown = shape(record(0xF011, atom(0x0BC1, struct.pack("<I", 7))), kind=75)
    found = read(deck(slide(shape(box(0, "T")), shown), document=listed, more={20: packed}).file(), "a.ppt")
    assert labelled(found) == {"Slide 1": "# T", "Slide 1 > Word.Document.8": "Embedded words."}
    assert found.left_out == ()


def test_an_encrypted_presentation_is_refused() -> None:
    for made in (deck(slide()).file(token=0xF3D1C4DF), (keyed := deck(slide())).edit({}, key=5) or keyed.file()):
        found = documents.read(io.BytesIO(made), filename="a.ppt")
        assert found == NoText("encrypted", frozenset({"ppt"}))


def test_a_slide_that_is_missing_is_said() -> None:
    made = deck(slide(shape(box(1, "First"))), atom(0, b""), slide(shape(box(1, "Third"))))
    found = read(made.file(), "a.ppt")
    assert found.text.split() == ["First", "Third"]
    assert found.left_out == (LeftOut("page", ("Slide 2",)),)


@pytest.mark.parametrize(
    ("head", "name"),
    [(b"1\xbe\0\0", "Write document"), (b"2\xbe\0\0", "Write document"), (b"\xdb\xa5-\0", "Word 2 document")],
)
def test_what_came_before_word_6_is_named(head: bytes, name: str) -> None:
    found = documents.read(io.BytesIO(head + bytes(100) + b"words"), filename="a.wri")
    assert isinstance(found, NoText)
    assert found.reason == f"unsupported_format: {name}"


# Damage


@pytest.mark.parametrize("name", ["report.doc", "notes.doc", "slides.ppt", "report.rtf"])
def test_damaged_bytes_are_read_or_refused_in_no_time(name: str) -> None:
    whole, chance = fixture(name), random.Random(7)
    started = time.process_time()
    for number in range(60):
        data = bytearray(whole)
        if number % 3 == 0:
            del data[chance.randrange(len(data)) :]
        for _ in range(chance.choice((1, 10, 100))):
            place = chance.randrange(len(data) or 1)
            data[place : place + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\x7f", b"{\\b}"))
        try:
            documents.read(io.BytesIO(bytes(data)), filename=name)
        except Unparseable:
            continue
    assert time.process_time() - started < 30


def test_hostile_records_take_linear_time() -> None:
    nested = b""
    for _ in range(2_000):
        nested = record(0xF003, nested)
    many = b"".join(shape(box(1, "x")) for _ in range(20_000))
    loop = Deck()
    loop.last = 0
    loop.edit({1: record(0x03E8)})
    loop.stream = loop.stream[: loop.last + 16] + struct.pack("<I", loop.last) + loop.stream[loop.last + 20 :]
    started = time.process_time()
    for data in (deck(slide(nested)).file(), deck(slide(many)).file(), loop.file()):
        documents.read(io.BytesIO(data), filename="a.ppt")
    fields = word((b"\x13 A " * 200_000 + b"\r", True))
    documents.read(io.BytesIO(fields), filename="a.doc")
    picture = struct.pack("<HI", 0x6A03, 0)
    marks = word((b"\x01" * 50_000, True), characters=page((50_000, picture)))
    documents.read(io.BytesIO(marks), filename="a.doc")
    rows = word((b"\x07" * 100_000, True))
    documents.read(io.BytesIO(rows), filename="a.doc")
    assert time.process_time() - started < 20
