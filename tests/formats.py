"""Files in every format that is read, made by the libraries that write them or, where there is none, byte by byte."""

import base64
import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from email.message import EmailMessage
from typing import IO

import docx
import openpyxl
import pptx
import xlwt
from odf import draw, style, table, text
from odf.opendocument import OpenDocumentDrawing, OpenDocumentPresentation, OpenDocumentSpreadsheet, OpenDocumentText
from pptx.util import Inches
from reportlab.lib import pdfencrypt
from reportlab.pdfgen import canvas

from compound import compound

Pages = list[list[str]]
ROWS = (("Name", "Amount"), ("apple", "3"), ("pear", "4"))
RELATIONSHIPS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def pdf(pages: Pages, *, bookmarks: dict[int, str] | None = None, password: str | None = None) -> bytes:
    file = io.BytesIO()
    encryption = pdfencrypt.StandardEncryption(password, "owner") if password else None
    made = canvas.Canvas(file, encrypt=encryption)
    for number, lines in enumerate(pages):
        if bookmarks and number in bookmarks:
            made.bookmarkPage(str(number))
            made.addOutlineEntry(bookmarks[number], str(number))
        for place, line in enumerate(lines):
            made.drawString(50, 800 - 15 * place, line)
        made.showPage()
    made.save()
    return file.getvalue()


def raw_pdf(objects: Sequence[bytes]) -> bytes:
    """A PDF of these objects, numbered from 1. The first one is the catalog."""
    body, places = b"%PDF-1.7\n", []
    for number, made in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, made)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer<</Root 1 0 R/Size %d>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(body))
    return body + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + end


def pdf_stream(data: bytes, keys: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (keys, len(data), data)


def endless_pdf() -> bytes:
    """Twenty thousand pages of one long content: small, and whoever reads it is busy for far longer than tests last."""
    kids = b" ".join(b"3 0 R" for _ in range(20_000))
    return raw_pdf(
        [
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Count 20000/Kids[" + kids + b"]>>",
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
            pdf_stream(b"BT /F1 9 Tf 50 50 Td (words) Tj ET\n" * 20_000),
            b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        ]
    )


def scanned_pdf() -> bytes:
    file = io.BytesIO()
    made = canvas.Canvas(file)
    made.rect(10, 10, 400, 400, fill=1)
    made.showPage()
    made.save()
    return file.getvalue()


def word() -> bytes:
    made = docx.Document()
    made.add_heading("Handbook", 0)
    made.add_heading("Install", 1)
    made.add_paragraph("Run the installer, “naïvely”.")
    made.add_heading("Docker", 2)
    composed = made.add_paragraph("Compose it.")
    made.add_comment(composed.runs, "Which version?", author="Ann")
    made.sections[0].header.paragraphs[0].text = "Internal"
    grid = made.add_table(rows=len(ROWS), cols=2)
    for i, row in enumerate(ROWS):
        for j, cell in enumerate(row):
            grid.cell(i, j).text = cell
    return _saved(made.save)


def workbook() -> bytes:
    made = openpyxl.Workbook()
    made.active.title = "Budget"
    for row in (("Item", "Cost"), ("Rent", 1200.5), ("Food", 300)):
        made.active.append(row)
    people = made.create_sheet("People")
    for row in (("Name", "Age"), ("Ann", 30)):
        people.append(row)
    return _saved(made.save)


def old_workbook() -> bytes:
    made = xlwt.Workbook()
    sheet = made.add_sheet("Old")
    for i, row in enumerate(ROWS):
        for j, cell in enumerate(row):
            sheet.write(i, j, cell)
    return _saved(made.save)


def binary_workbook() -> bytes:
    """A workbook of records with one sheet, "Binary": cells of each way to store a value, and a comment."""

    def record(kind: int, data: bytes = b"") -> bytes:
        head = bytes([kind]) if kind < 128 else bytes([kind & 127 | 128, kind >> 7])
        size = len(data)
        return head + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + data

    def said(text: str) -> bytes:
        return struct.pack("<I", len(text)) + text.encode("utf-16-le")

    def cell(kind: int, column: int, data: bytes, style: int = 0) -> bytes:
        return record(kind, struct.pack("<II", column, style) + data)

    def row(number: int, *cells: bytes) -> bytes:
        return record(0, struct.pack("<I", number) + bytes(13)) + b"".join(cells)

    def related(*found: tuple[str, str]) -> bytes:
        kinds = RELATIONSHIPS
        each = (
            f'<Relationship Id="r{i}" Type="{kinds}/{kind}" Target="{target}"/>'
            for i, (kind, target) in enumerate(found, 1)
        )
        space = "http://schemas.openxmlformats.org/package/2006/relationships"
        return f'<Relationships xmlns="{space}">{"".join(each)}</Relationships>'.encode()

    names = row(0, *(cell(7, i, struct.pack("<I", i)) for i in range(2)), cell(6, 2, said("Rate")))
    values = row(
        1,
        cell(6, 0, said("apple")),
        cell(2, 1, struct.pack("<I", 3 << 2 | 2)),
        cell(5, 2, struct.pack("<d", 0.1225), style=1),
    )
    others = row(
        2,
        cell(8, 0, said("pear") + bytes(6)),
        cell(9, 1, struct.pack("<d", 4) + bytes(6)),
        cell(10, 2, b"\1" + bytes(6)),
        cell(3, 3, b"\x2a"),
        cell(62, 4, b"\0" + said("rich")),
    )
    header = record(479, bytes(2) + said("&CCompany &P") + b"\xff" * 4)
    comment = struct.pack("<IIIII", 0, 1, 1, 1, 1) + bytes(16)
    return zipped(
        {
            "[Content_Types].xml": b"<Types/>",
            "_rels/.rels": related(("officeDocument", "xl/workbook.bin")),
            "xl/workbook.bin": record(156, struct.pack("<II", 0, 1) + said("r1") + said("Binary")),
            "xl/_rels/workbook.bin.rels": related(
                ("worksheet", "worksheets/sheet1.bin"), ("sharedStrings", "sharedStrings.bin"), ("styles", "styles.bin")
            ),
            "xl/sharedStrings.bin": record(19, b"\0" + said("Name")) + record(19, b"\0" + said("Amount")),
            "xl/styles.bin": record(44, struct.pack("<H", 200) + said("0.00%"))
            + record(617)
            + record(47, bytes(16))
            + record(47, struct.pack("<HH", 0, 200) + bytes(12))
            + record(618),
            "xl/worksheets/sheet1.bin": names + values + others + header,
            "xl/worksheets/_rels/sheet1.bin.rels": related(("comments", "../comments1.bin")),
            "xl/comments1.bin": record(632, said("Ann")) + record(635, comment) + record(637, b"\0" + said("net")),
        }
    )


def slides() -> bytes:
    made = pptx.Presentation()
    for number in (1, 2):
        slide = made.slides.add_slide(made.slide_layouts[1])
        slide.shapes.title.text = f"Title {number}"
        slide.placeholders[1].text = f"Point {number}\nanother"
        slide.notes_slide.notes_text_frame.text = f"Say it slowly, {number}"
    grid = slide.shapes.add_table(2, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
    for i, j, cell in ((0, 0, "a"), (0, 1, "b"), (1, 0, "c"), (1, 1, "d")):
        grid.cell(i, j).text = cell
    return _saved(made.save)


def open_text() -> bytes:
    made = OpenDocumentText()
    made.text.addElement(text.H(outlinelevel=1, text="Install"))
    made.text.addElement(text.P(text="Run the installer."))
    made.text.addElement(text.H(outlinelevel=2, text="Docker"))
    made.text.addElement(text.P(text="Compose it."))
    made.text.addElement(_open_table("Fruit"))
    return _saved(made.save)


def open_sheet() -> bytes:
    made = OpenDocumentSpreadsheet()
    made.spreadsheet.addElement(_open_table("Fruit"))
    return _saved(made.save)


def open_slides() -> bytes:
    made = OpenDocumentPresentation()
    layout = style.PageLayout(name="layout")
    master = style.MasterPage(name="master", pagelayoutname=layout)
    made.automaticstyles.addElement(layout)
    made.masterstyles.addElement(master)
    for number in (1, 2):
        page = draw.Page(masterpagename=master, name=f"page{number}")
        for kind, said in (("title", f"Title {number}"), ("outline", f"Point {number}")):
            frame = draw.Frame(width="10cm", height="5cm", attributes={"class": kind})
            box = draw.TextBox()
            box.addElement(text.P(text=said))
            frame.addElement(box)
            page.addElement(frame)
        made.presentation.addElement(page)
    return _saved(made.save)


def open_drawing() -> bytes:
    made = OpenDocumentDrawing()
    layout = style.PageLayout(name="layout")
    master = style.MasterPage(name="master", pagelayoutname=layout)
    made.automaticstyles.addElement(layout)
    made.masterstyles.addElement(master)
    page, shape = draw.Page(masterpagename=master), draw.Rect(width="10cm", height="5cm")
    shape.addElement(text.P(text="In a box"))
    page.addElement(shape)
    made.drawing.addElement(page)
    return _saved(made.save)


def flat_open_text() -> bytes:
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<office:document '
        b'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
        b'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
        b'office:mimetype="application/vnd.oasis.opendocument.text"><office:body><office:text>'
        b'<text:h text:outline-level="2">Docker</text:h><text:p>Compose it.</text:p>'
        b"</office:text></office:body></office:document>"
    )


def _open_table(name: str) -> table.Table:
    made = table.Table(name=name)
    for row in ROWS:
        line = table.TableRow()
        for cell in row:
            place = table.TableCell(valuetype="string")
            place.addElement(text.P(text=cell))
            line.addElement(place)
        made.addElement(line)
    return made


def book() -> bytes:
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
        'full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="a" href="a.xhtml" media-type='
        '"application/xhtml+xml"/><item id="b" href="text/b%20b.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="b"/><itemref idref="a"/></spine></package>'
    )
    page = '<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>Chapter {0}</h1><p>Words of {0}.</p></body></html>'
    return zipped(
        {
            "mimetype": b"application/epub+zip",
            "META-INF/container.xml": container.encode(),
            "OEBPS/book.opf": package.encode(),
            "OEBPS/a.xhtml": page.format("two").encode(),
            "OEBPS/text/b b.xhtml": page.format("one").encode(),
        }
    )


def rich_text() -> bytes:
    return (
        rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Times;}}\f0 Hello \b World\b0 , caf\'e9 costs 3 \u8364?.\par"
        rb"\trowd\cellx1000\cellx2000 Name\cell Amount\cell\row\trowd apple\cell 3\cell\row\pard The end.\par}"
    )


def email(*, subject: str = "Quarterly résumé", attached: dict[str, bytes] | None = None) -> bytes:
    made = EmailMessage()
    made["Subject"], made["From"], made["To"] = subject, "Ann <ann@x.org>", "bob@x.org"
    made["Date"], made["Message-ID"] = "Mon, 1 Jan 2024 10:00:00 +0000", "<1@x.org>"
    made.set_content("The plain body.")
    made.add_alternative("<html><body><p>The same body as a page.</p></body></html>", subtype="html")
    for name, data in (attached or {}).items():
        made.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return made.as_bytes()


def mailbox() -> bytes:
    """Two messages, the first of which quotes the line that begins a message."""
    line = b"From ann@x.org Thu Jan  4 10:00:00 2024\n"
    quoting = b"Subject: Quoted\nFrom: bob@x.org\n\nHe wrote:\n\n>From that day on.\n\n"
    return line + quoting + line + email(subject="Another", attached={"b.csv": b"Name,Amount\napple,3\n"})


def winmail() -> bytes:
    """What Outlook attaches instead of its attachments (TNEF): a body and a file."""
    return tnef(
        (1, 0x00069007, struct.pack("<II", 1252, 0)),
        (1, 0x0002800C, "The café in it.".encode("cp1252") + b"\0"),
        (2, 0x00069002, bytes(14)),
        (2, 0x00018010, b"table.csv\0"),
        (2, 0x0006800F, b"Name,Amount\napple,3\n"),
    )


def winmail_with(property_id: int, data: bytes) -> bytes:
    """The same with one binary property of the message."""
    padded = data + bytes(-len(data) % 4)
    return tnef((1, 0x00069003, struct.pack("<IHHII", 1, 0x0102, property_id, 1, len(data)) + padded))


def tnef(*attributes: tuple[int, int, bytes]) -> bytes:
    return struct.pack("<IH", 0x223E9F78, 1) + b"".join(
        struct.pack("<BII", level, kind, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)
        for level, kind, data in attributes
    )


def outlook() -> bytes:
    """A message with a file and another message attached."""

    def wide(said: str) -> bytes:
        return said.encode("utf-16-le")

    file, inner = "__attach_version1.0_#00000000", "__attach_version1.0_#00000001/__substg1.0_3701000D"
    return compound(
        {
            "__properties_version1.0": bytes(32),
            "__substg1.0_0037001F": wide("Budget talk"),
            "__substg1.0_0C1A001F": wide("Ann"),
            "__substg1.0_1000001F": wide("The body of it."),
            f"{file}/__substg1.0_3707001F": wide("table.csv"),
            f"{file}/__substg1.0_37010102": b"Name,Amount\napple,3\n",
            f"{inner}/__properties_version1.0": bytes(24),
            f"{inner}/__substg1.0_0037001F": wide("An older one"),
            f"{inner}/__substg1.0_1000001F": wide("What was said before."),
        }
    )


def old_word() -> bytes:
    said = "Old words, café.\rAnother paragraph.\r".encode("cp1252")
    head = bytearray(0x600)
    struct.pack_into("<HHHHHH", head, 0, 0xA5EC, 0xC1, 0, 0x409, 0, 0x0200)
    struct.pack_into("<II", head, 0x18, 0x600, 0x600 + len(said))
    struct.pack_into("<H", head, 0x20, 14)
    struct.pack_into("<H", head, 0x3E, 22)
    struct.pack_into("<i", head, 0x4C, len(said))
    struct.pack_into("<H", head, 0x98, 93)
    pieces = struct.pack("<BIIIHIH", 2, 16, 0, len(said), 0, 0x600 * 2 | 0x40000000, 0)
    struct.pack_into("<II", head, 0x1A2, 0, len(pieces))
    return compound({"WordDocument": bytes(head) + said, "1Table": pieces})


def old_slides() -> bytes:
    def record(version: int, kind: int, data: bytes) -> bytes:
        return struct.pack("<HHI", version, kind, len(data)) + data

    title = record(0, 0x0F9F, struct.pack("<I", 0)) + record(0, 0x0FA0, "Old slides".encode("utf-16-le"))
    body = record(0, 0x03F3, struct.pack("<IIIII", 2, 0, 0, 256, 0)) + title + record(0, 0x0FA8, b"A point of them.")
    document = record(0xF, 0x03E8, record(0xF, 0x0FF0, body))
    return compound({"PowerPoint Document": document, "Current User": record(0, 0x0FF6, bytes(20))})


def notebook() -> bytes:
    return json.dumps(
        {
            "nbformat": 4,
            "metadata": {"kernelspec": {"language": "python"}},
            "cells": [
                {"cell_type": "markdown", "source": ["# Study\n", "What we ask."]},
                {
                    "cell_type": "code",
                    "source": "print(1 + 1)",
                    "outputs": [
                        {"output_type": "stream", "text": ["2\n"]},
                        {"output_type": "display_data", "data": {"image/png": "aGk=", "text/plain": "<Figure>"}},
                        {"output_type": "error", "ename": "KeyError", "evalue": "'x'", "traceback": ["\x1b[31mlong"]},
                    ],
                },
            ],
        }
    ).encode()


def _saved(save: Callable[[IO[bytes]], object]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def relations(found: list[tuple[str, str]]) -> str:
    """The relations of a part of an Office file: (kind, target) each."""
    each = "".join(
        f'<Relationship Id="rId{i}" Type="{RELATIONSHIPS}/{kind}" Target="{target}"/>'
        for i, (kind, target) in enumerate(found, 1)
    )
    space = "http://schemas.openxmlformats.org/package/2006/relationships"
    return f'<Relationships xmlns="{space}">{each}</Relationships>'


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


MEMBERS = {
    "notes/a.md": b"# One\n\nIn the first file.",
    "b.csv": b"Name,Amount\napple,3\n",
    "c.png": b"\x89PNG\r\n\x1a\n",
}


# By file name: how it is made, and what it says, as (section, words) in order.
def xml_sheet() -> bytes:
    """An XML Spreadsheet 2003."""
    rows = "".join(
        "<Row>" + "".join(f'<Cell><Data ss:Type="String">{cell}</Data></Cell>' for cell in row) + "</Row>"
        for row in ROWS
    )
    space = "urn:schemas-microsoft-com:office:spreadsheet"
    sheet = f'<Worksheet ss:Name="Fruit"><Table>{rows}</Table></Worksheet>'
    return f'<?xml version="1.0"?><Workbook xmlns="{space}" xmlns:ss="{space}">{sheet}</Workbook>'.encode()


FORMATS: dict[str, tuple[Callable[[], bytes], list[tuple[str, str]]]] = {
    "a.pdf": (
        lambda: pdf([["First page."], ["Second", "Name Amount", "apple 3"]], bookmarks={1: "Results"}),
        [("Page 1", "First page."), ("Page 2 > Results", "Name Amount\napple 3")],
    ),
    "a.docx": (
        word,
        [
            ("", "## Docker\n\nCompose it.\n\n[Comment by Ann: Which version?]"), ("", "| apple | 3 |"),
            ("", "“naïvely”"), ("Header", "Internal"),
        ],
    ),
    "a.xlsx": (
        workbook,
        [("Sheet Budget", "Item: Rent; Cost: 1200.5\nItem: Food; Cost: 300"), ("Sheet People", "Age: 30")],
    ),
    "a.pptx": (slides, [("Slide 1", "# Title 1"), ("Slide 1", "Say it slowly, 1"), ("Slide 2", "| c | d |")]),
    "a.odt": (open_text, [("", "## Docker\n\nCompose it."), ("", "| apple | 3 |")]),
    "a.ods": (open_sheet, [("Sheet Fruit", "Name: apple; Amount: 3\nName: pear; Amount: 4")]),
    "a.odp": (open_slides, [("Slide 1", "# Title 1\n\nPoint 1"), ("Slide 2", "Point 2")]),
    "a.odg": (open_drawing, [("Page 1", "In a box")]),
    "a.fodt": (flat_open_text, [("", "## Docker\n\nCompose it.")]),
    "a.epub": (book, [("", "# Chapter one\n\nWords of one."), ("", "# Chapter two")]),
    "a.rtf": (rich_text, [("", "café costs 3 €"), ("", "| apple | 3 |"), ("", "The end.")]),
    "a.eml": (
        lambda: email(attached={"report.docx": word(), "in.zip": zipped(MEMBERS)}),
        [
            ("Quarterly résumé", "From: Ann <ann@x.org>"), ("Quarterly résumé", "The plain body."),
            ("report.docx", "Compose it."), ("in.zip > notes/a.md", "In the first file."),
        ],
    ),
    "a.mbox": (
        mailbox,
        [
            ("Quoted", "He wrote:\n\nFrom that day on."), ("Another", "The plain body."),
            ("Another > b.csv", "Name: apple; Amount: 3"),
        ],
    ),
    "winmail.dat": (winmail, [("", "The café in it."), ("table.csv", "Name: apple; Amount: 3")]),
    "a.b64": (lambda: base64.encodebytes(rich_text()), [("", "café costs 3 €"), ("", "| apple | 3 |")]),
    "a.msg": (
        outlook,
        [
            ("Budget talk", "From: Ann\n\nThe body of it."), ("table.csv", "Name: apple; Amount: 3"),
            ("An older one", "What was said before."),
        ],
    ),
    "sheet.xml": (xml_sheet, [("Sheet Fruit", "Name: apple; Amount: 3\nName: pear; Amount: 4")]),
    "a.doc": (old_word, [("", "Old words, café."), ("", "Another paragraph.")]),
    "a.xlsb": (binary_workbook, [("Sheet Binary", "Name: apple; Amount: 3; Rate: 12.25% (0.1225)")]),
    "a.xls": (old_workbook, [("Sheet Old", "Name: apple; Amount: 3")]),
    "a.ppt": (old_slides, [("Slide 1", "# Old slides\n\nA point of them.")]),
    "a.zip": (lambda: zipped(MEMBERS), [("notes/a.md", "In the first file."), ("b.csv", "Name: apple; Amount: 3")]),
    "a.tar": (lambda: tarred(MEMBERS), [("notes/a.md", "In the first file."), ("b.csv", "Name: apple; Amount: 3")]),
    "a.tar.gz": (lambda: gzip.compress(tarred(MEMBERS)), [("notes/a.md", "In the first file.")]),
    "a.tar.bz2": (lambda: bz2.compress(tarred(MEMBERS)), [("b.csv", "Name: apple; Amount: 3")]),
    "a.tar.xz": (lambda: lzma.compress(tarred(MEMBERS)), [("notes/a.md", "In the first file.")]),
    "a.csv.gz": (lambda: gzip.compress(MEMBERS["b.csv"]), [("", "Name: apple; Amount: 3")]),
}  # fmt: skip


MB = 1024 * 1024


def nested(depth: int, data: bytes = b"deep") -> bytes:
    for _ in range(depth):
        data = zipped({"in.zip" if data != b"deep" else "a.txt": data})
    return data


def zip_that_lies() -> bytes:
    """Its one file says that it is small, and unpacks to a gigabyte."""
    data = bytearray(zipped({"a.txt": bytes(64 * MB)}))
    place = data.index(b"PK\x01\x02") + 24
    data[place : place + 4] = (1_000).to_bytes(4, "little")
    return bytes(data)


def bomb(unpacked_mb: int) -> bytes:
    return gzip.compress(b" " * MB * unpacked_mb)


def office_with(part: str, xml: bytes) -> bytes:
    """An Office document with another content of one part."""
    original = {"word": word, "ppt": slides, "xl": workbook}[part.partition("/")[0]]
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(original())) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, xml if member.filename == part else old.read(member))
    return made.getvalue()


def opened_with(kind: str, content: bytes) -> bytes:
    """An OpenDocument file with this content."""
    mime = f"application/vnd.oasis.opendocument.{kind}"
    return zipped({"mimetype": mime.encode(), "content.xml": content})


LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY %c "%s">' % (c + 1, b"&%c;" % c * 10) for c in range(97, 110))
    + b"]><x>&n;</x>"
)
REPEATS = (
    b'<a xmlns:t="urn:oasis:names:tc:opendocument:xmlns:table:1.0"><t:table t:name="S">'
    + b'<t:table-row t:number-rows-repeated="1048576"><t:table-cell t:number-columns-repeated="16384">x</t:table-cell>'
    b"</t:table-row>" * 1_000 + b"</t:table></a>"
)
HOSTILE: dict[str, Callable[[], bytes]] = {
    "bomb.txt.gz": lambda: bomb(200),
    "bomb.txt.gz.gz": lambda: gzip.compress(bomb(200)),
    "bombs.zip": lambda: zipped({f"{n}.txt": b" " * 20 * MB for n in range(12)}),
    "liar.zip": zip_that_lies,
    "nested.zip": lambda: nested(40),
    "many.zip": lambda: zipped({f"{n}.txt": b"x" for n in range(20_000)}),
    "maze.tar": lambda: tarred({"a/" * 100_000 + "a.txt": b"x"}),
    "slip.zip": lambda: zipped({"../../../../tmp/slipped.txt": b"x", "/etc/slipped.txt": b"y"}),
    "laughs.docx": lambda: office_with("word/document.xml", LAUGHS),
    "laughs.pptx": lambda: office_with("ppt/slides/slide1.xml", LAUGHS),
    "nested.docx": lambda: office_with("word/document.xml", b"<a>" * 1_000_000),
    "nested.pptx": lambda: office_with("ppt/slides/slide1.xml", b"<a>" * 1_000_000),
    "laughs.odt": lambda: opened_with("text", LAUGHS),
    "nested.odt": lambda: opened_with("text", b"<a>" * 1_000_000),
    "repeats.ods": lambda: opened_with("spreadsheet", REPEATS),
    "bomb.docx": lambda: office_with(
        "word/document.xml", b'<w:document xmlns:w="x"><w:t>' + b"a" * 200 * MB + b"</w:t></w:document>"
    ),
    "nested.html": lambda: b"<html><body>" + b"<div><header>" * 1_000_000 + b"words",
    "nested.eml": lambda: b"MIME-Version: 1.0\nContent-Type: message/rfc822\n\n" * 20_000,
}
