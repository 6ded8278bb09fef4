"""Excel files before 2007: cells as they are shown, comments, text boxes and page headers, from their records."""

import io
import struct
from pathlib import Path

import xlwt

from airweave_server.text.documents import read
from airweave_server.text.parts import Extracted, LeftOut, NoText
from compound import compound

FIXTURE = Path(__file__).parent / "fixtures" / "old-sheet.xls"  # made with LibreOffice
BIFF5, BIFF8 = 0x0500, 0x0600


def record(kind: int, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack("<HH", kind, len(data)) + data


def words(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}H", *numbers)


def wide(text: str) -> bytes:
    return words(len(text)) + b"\1" + text.encode("utf-16-le")


def workbook(sheet: bytes, *, version: int = BIFF8, before: bytes = b"") -> bytes:
    """The stream of a workbook with one sheet, whose name is "S"."""
    name = b"\1\0S" if version == BIFF8 else b"\1S"
    begin = record(0x809, words(version, 5, 0, 0))
    end = record(0x0A)
    place = len(begin) + len(before) + 4 + 6 + len(name) + len(end)
    listed = record(0x85, struct.pack("<IBB", place, 0, 0), name)
    return begin + before + listed + end + record(0x809, words(version, 0x10, 0, 0)) + sheet + record(0x0A)


def text_of(data: bytes) -> Extracted:
    found = read(io.BytesIO(data), filename="a.xls")
    assert isinstance(found, Extracted), found
    return found


def opened(stream: bytes, name: str = "Workbook", **more: bytes) -> Extracted:
    return text_of(compound({name: stream} | {key.replace("__", "/"): data for key, data in more.items()}))


def test_a_workbook_of_libreoffice_is_read_as_it_is_shown() -> None:
    found = text_of(FIXTURE.read_bytes())
    assert found.text == (
        "Card: 1234567890123456; Rate: 12.25% (0.1225); Zip: 01067 (1067); Time: 25:30; "
        "Day: 27/11/2026 (2026-11-27)\nRate: [Comment: net of tax]\n\nin a box, Größe\n\nCompany, page\n\n"
        "<T> & *a_b*; computed; TRUE; #DIV/0!\n\n"
    )
    assert [section.label for section in found.sections] == ["Sheet One", "Sheet One", "Sheet Größe"]
    assert not found.left_out


def test_shared_strings_go_on_in_the_next_record() -> None:
    made = xlwt.Workbook()
    sheet = made.add_sheet("Long")
    said = [f"{'ж' * (i % 7)} number {i} {'x' * (i % 90)}" for i in range(1_000)]
    for i, text in enumerate([1.5, *said]):
        sheet.write(i, 0, text)
    file = io.BytesIO()
    made.save(file)
    assert text_of(file.getvalue()).text.split("\n")[1:1_001] == [" ".join(text.split()) for text in said]


def test_formats_dates_and_formulas_are_shown() -> None:
    made = xlwt.Workbook()
    made.dates_1904 = True
    sheet = made.add_sheet("S")
    for column, (value, code) in enumerate([(0.1225, "0.00%"), (1067, "00000"), (44891, "yyyy-mm-dd"), (1e20, "0")]):
        sheet.write(0, column, value, xlwt.easyxf(num_format_str=code))
    sheet.write(0, 4, True)
    file = io.BytesIO()
    made.save(file)
    assert text_of(file.getvalue()).text == (
        "12.25% (0.1225); 01067 (1067); 2026-11-27; 100000000000000000000; TRUE\n\n"
    )


def test_packed_numbers_and_texts_of_formulas() -> None:
    packed = [(4711 << 2) | 2, ((1225 << 2) | 3), 0x3FF00000, ((-5 << 2) & 0xFFFFFFFF) | 2]
    many = record(0xBD, words(0, 0), *(struct.pack("<HI", 0, one) for one in packed), words(3))
    cell = words(0, 4, 0)
    formula = record(0x06, cell, b"\0\0\0\0\0\0\xff\xff", bytes(8)) + record(0x207, wide("com\u00adputed"))
    truth = record(0x06, words(0, 5, 0), b"\1\0\1\0\0\0\xff\xff", bytes(8))
    error = record(0x06, words(0, 6, 0), b"\2\0\x2a\0\0\0\xff\xff", bytes(8))
    empty = record(0x06, words(0, 7, 0), b"\3\0\0\0\0\0\xff\xff", bytes(8))
    earlier = record(0x406, words(0, 8, 0), struct.pack("<d", 2.5), bytes(6))
    found = opened(workbook(many + formula + truth + error + empty + earlier))
    assert found.text == "4711; 12.25; 1; -5; computed; TRUE; #N/A; 2.5\n\n"


def test_comments_have_their_author_and_boxes_stand_apart() -> None:
    def drawn(id: int, kind: int, text: str) -> bytes:
        about = record(0x5D, words(0x15, 0x12, kind, id), bytes(14))
        box = record(0x1B6, words(0, 0, 0, 0, 0, len(text), 16, 0, 0))
        return about + box + record(0x3C, b"\1" + text.encode("utf-16-le")) + record(0x3C, bytes(16))

    cells = record(0x204, words(0, 0, 0), wide("Cost"))
    note = record(0x1C, words(0, 0, 0, 7), wide("Ann"), b"\0")
    picture = record(0x5D, words(0x15, 0x12, 8, 9), bytes(14))
    found = opened(workbook(cells + drawn(7, 0x19, "Ann:\nnet of tax") + drawn(8, 6, "a box") + picture + note))
    assert found.text == "Cost: [Comment by Ann: net of tax]\n\na box\n\n"
    assert found.left_out == (LeftOut("image", ("Sheet S",)),)


def test_the_numbers_that_a_sheet_of_a_chart_keeps_are_not_read_twice() -> None:
    cells = record(0x204, words(0, 0, 0), wide("Costs")) + record(0x203, words(1, 0, 0), struct.pack("<d", 5.5))
    kept = 2 * record(0x100D, words(0), b"\5\1" + "Costs".encode("utf-16-le")) + record(
        0x203, words(0, 0, 0), struct.pack("<d", 5.5)
    )
    begin, end = record(0x809, words(BIFF8, 5, 0, 0)), record(0x0A)
    sheet = record(0x809, words(BIFF8, 0x10, 0, 0)) + cells + end
    chart = record(0x809, words(BIFF8, 0x20, 0, 0)) + kept + end
    first = len(begin) + 2 * (4 + 6 + 3) + len(end)
    listed = record(0x85, struct.pack("<IBB", first, 0, 0), b"\1\0S")
    listed += record(0x85, struct.pack("<IBB", first + len(sheet), 0, 2), b"\1\0C")
    found = opened(begin + listed + end + sheet + chart)
    assert found.text == "Costs: 5.5\n\nCosts\n\n"
    assert [section.label for section in found.sections] == ["Sheet S", "Sheet C"]


def test_excel_5_is_read_in_its_code_page() -> None:
    page = record(0x42, words(1251))
    text = "Цена".encode("cp1251")
    cells = record(0x204, words(0, 0, 0, len(text)), text) + record(0x203, words(1, 0, 0), struct.pack("<d", 5.5))
    note = record(0x1C, words(1, 0, 8), "нетто ".encode("cp1251").ljust(8)) + record(0x1C, words(0xFFFF, 0, 4), b"only")
    found = opened(workbook(cells + note, version=BIFF5, before=page), "Book")
    assert found.text == "Цена: 5.5\nЦена: [Comment: нетто only]\n\n"


def test_what_is_cut_short_or_locked_is_said() -> None:
    whole = workbook(record(0x203, words(0, 0, 0), struct.pack("<d", 5)) + record(0x203, words(1, 0, 0), bytes(8)))
    found = opened(whole[:-9])
    assert found.text == "5\n\n"
    assert found.left_out == (LeftOut("damaged", ("Sheet S",), note="it is damaged or cut short"),)
    locked = read(io.BytesIO(compound({"Workbook": workbook(b"", before=record(0x2F, bytes(6)))})), filename="a.xls")
    assert isinstance(locked, NoText)
    assert locked.reason == "encrypted"


def test_embedded_documents_are_read() -> None:
    inner = workbook(record(0x203, words(0, 0, 0), struct.pack("<d", 7)))
    found = opened(
        workbook(record(0x203, words(0, 0, 0), struct.pack("<d", 5))),
        MBD01__Package=b"# A file of words\n",
        MBD02__Workbook=inner,
        MBD03__Oddity=b"?",
    )
    assert found.text == "5\n\n# A file of words\n\n7\n\n"
    assert [section.label for section in found.sections] == ["Sheet S", "MBD01", "MBD02 > Sheet S"]
    assert found.left_out == (LeftOut("object", ("MBD03",)),)
