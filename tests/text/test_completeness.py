"""The count of the words that a document holds: it finds what was not read, and is silent where all was."""

import io
import zipfile
from collections.abc import Callable
from email.message import EmailMessage

import pytest
from docx import Document
from odf import text as odf_text
from odf.opendocument import OpenDocumentText
from openpyxl import Workbook
from pptx import Presentation
from pypdfium2 import PdfDocument

import formats
from airweave_server.text import completeness, documents
from airweave_server.text.completeness_held import Opened
from airweave_server.text.parts import Extracted, LeftOut

PARAGRAPHS = [" ".join(f"word{line}x{place}" for place in range(20)) for line in range(50)]


def docx_file() -> bytes:
    made = Document()
    for line in PARAGRAPHS[:40]:
        paragraph = made.add_paragraph(line[:100])
        paragraph.add_run(line[100:]).bold = True  # within a word
    table = made.add_table(rows=10, cols=1)
    for number, line in enumerate(PARAGRAPHS[40:]):
        table.cell(number, 0).text = line
    return _saved(made.save)


def pptx_file() -> bytes:
    made = Presentation()
    for number in range(0, 50, 5):
        slide = made.slides.add_slide(made.slide_layouts[1])
        slide.placeholders[1].text = "\n".join(PARAGRAPHS[number : number + 5])
    return _saved(made.save)


def xlsx_file() -> bytes:
    made = Workbook()
    for line in PARAGRAPHS:
        made.active.append(line.split())
    return _saved(made.save)


def odt_file() -> bytes:
    made = OpenDocumentText()
    for line in PARAGRAPHS:
        paragraph = odf_text.P()
        paragraph.addElement(odf_text.Span(text=line[:100]))
        paragraph.addElement(odf_text.Span(text=line[100:]))
        made.text.addElement(paragraph)
    return _saved(made.save)


def rtf_file() -> bytes:
    head = r"{\rtf1\ansi{\fonttbl{\f0 Arial;}}{\*\generator Words that nobody sees;}"
    return (head + "".join(f"{{\\b {line[:100]}}}{line[100:]}\\par\n" for line in PARAGRAPHS) + "}").encode()


def mail_file() -> bytes:
    made = EmailMessage()
    made["Subject"] = "Words"
    made.set_content("\n".join(PARAGRAPHS))
    made.add_alternative(f"<p>{'</p><p>'.join(PARAGRAPHS)}</p>", subtype="html")
    return made.as_bytes()


def epub_file() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number in range(0, 50, 10):
            lines = "".join(f"<p>{line[:100]}<b>{line[100:]}</b></p>" for line in PARAGRAPHS[number : number + 10])
            archive.writestr(f"{number}.xhtml", f"<html><head><title>t</title></head><body>{lines}</body></html>")
    return made.getvalue()


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    made = io.BytesIO()
    save(made)
    return made.getvalue()


FILES = {
    "docx": docx_file,
    "pptx": pptx_file,
    "xlsx": xlsx_file,
    "odt": odt_file,
    "rtf": rtf_file,
    "email": mail_file,
    "epub": epub_file,
}


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("lost", [2, 10, 50])
def test_a_planted_loss_is_counted(form: str, lost: int) -> None:
    """However often the rest was read: doubling it cannot hide a loss."""
    file = io.BytesIO(FILES[form]())
    assert completeness.missing_words(file, form, [("", "\n".join(PARAGRAPHS))]) == 0
    kept = "\n".join([*PARAGRAPHS[: 50 - lost], *PARAGRAPHS[: 50 - lost]])
    assert completeness.missing_words(file, form, [("", kept)]) == pytest.approx(20 * lost, rel=0.1)


FORMATS = ["General", "0.00", "#,##0.00", "0.0%", "yyyy-mm-dd", "[$-409]d/m/yy", "0.00E+00"]


@pytest.mark.parametrize("lost", [10, 40, 80])
@pytest.mark.parametrize("first", [0, 20])
def test_a_planted_loss_of_numbers_is_counted_whatever_their_format(first: int, lost: int) -> None:
    """Names of columns before each value, and raw values behind it, do not hide it."""
    made = Workbook()
    made.active.append(["Region", *FORMATS])
    for row in range(100):
        made.active.append(
            [f"place {'abcdefg'[row % 7]}", *(41_000 + row * 1.37 + place for place in range(len(FORMATS)))]
        )
        for cell, code in zip(made.active[row + 2][1:], FORMATS, strict=True):
            cell.number_format = code
    data = _saved(made.save)
    found = documents.read(io.BytesIO(data), filename="a.xlsx")
    assert isinstance(found, Extracted)
    assert found.left_out == ()
    lines = found.text.strip().split("\n")
    kept = "\n".join([*lines[:first], *lines[first + lost :]])
    shown = 2 + 2 + 2 + 3 + 2 + 3 + 3 + 3  # words of a row
    assert completeness.missing_words(io.BytesIO(data), "xlsx", [("", kept)]) == pytest.approx(shown * lost, rel=0.1)


def test_cells_without_any_space_and_tags_without_end_take_no_long_time() -> None:
    made = io.BytesIO()
    cell = '<c r="A1"><v>7</v></c><c r="B1" t="inlineStr"><is><t>' + "x" * 1_000_000 + "</t></is></c>"
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, inside in enumerate((cell, f"<!-- {'<c <v t=' * 100_000} -->", "<c><f " * 100_000)):
            archive.writestr(f"xl/worksheets/sheet{number}.xml", f"<worksheet>{inside}</worksheet>")
    read = f"{'x' * 1_000_000} (7)"
    assert completeness.missing_words(made, "xlsx", [("", read)]) == 0


def test_a_loss_in_a_mailbox_and_in_a_report_of_a_mail_server_is_counted() -> None:
    report = (
        b"Content-Type: multipart/report; boundary=B\n\n--B\n\nIt came back.\n\n--B\n"
        b"Content-Type: message/delivery-status\n\nReporting-MTA: dns; mail.example.com\n\n"
        b"Final-Recipient: rfc822; someone@example.com\nAction: failed\nStatus: 5.4.6 of many\n\n--B\n"
        b"Content-Type: text/rfc822-headers\n\nReceived: from one.example.com\nX-Word: six more words of the headers\n"
        b"\n--B--\n"
    )
    assert completeness.missing_words(io.BytesIO(report), "email", [("", "It came back.")]) == 33
    mailbox = b"From a Mon Jan 1 2026\n" + mail_file() + b"\n\nFrom b Mon Jan 1 2026\n" + mail_file()
    whole = "\n".join(PARAGRAPHS * 2)
    assert completeness.missing_words(io.BytesIO(mailbox), "mbox", [("", whole)]) == 0
    kept = "\n".join(PARAGRAPHS * 2)[: len(whole) // 2]
    assert completeness.missing_words(io.BytesIO(mailbox), "mbox", [("", kept)]) == pytest.approx(1_000, rel=0.1)


@pytest.mark.parametrize("lost", [3, 10])
def test_a_loss_on_pages_is_counted(lost: int) -> None:
    pages = [PARAGRAPHS[number : number + 5] for number in range(0, 50, 5)]
    file = io.BytesIO(formats.pdf(pages))
    read = [(f"Page {number} > Heading", "\n".join(lines)) for number, lines in enumerate(pages, 1)]
    assert completeness.missing_words(file, "pdf", read) == 0
    kept = [(label, text if number >= lost else "") for number, (label, text) in enumerate(read)]
    assert completeness.missing_words(file, "pdf", kept) == pytest.approx(100 * lost, rel=0.1)


def test_pages_that_the_reader_did_not_show_are_counted() -> None:
    pages = [PARAGRAPHS[number : number + 5] for number in range(0, 50, 5)]
    file = io.BytesIO(formats.pdf(pages))
    opened = Opened()
    with PdfDocument(file) as document:
        for number in (0, 1):
            opened.glyphs.take(len(document), number, document[number].get_textpage())
    read = [(f"Page {number}", "\n".join(lines)) for number, lines in enumerate(pages, 1) if number not in (1, 5)]
    assert completeness.missing_words(file, "pdf", read, opened=opened) == pytest.approx(200, rel=0.1)


def test_words_of_rtf_are_counted_among_words_that_only_format() -> None:
    said = [
        r"\pard\f1\fs20\cf1 alpha\b0\i beta\ulnone gamma",  # "alphabetagamma"
        r"C:\\temp\\boldly\par two\tab three\u228\f2 ?four\'e4\'f6 {\*\unknown\b0 gone} \{five\}",
        r"{\fonttbl{\f0\fnil Gone;}}{\*\generator Gone}\plain\b six\b0\'2d seven{\v hidden\b still} eight\~nine",
    ]
    words = ["alphabetagamma", "C", "temp", "boldly", "two", "three\u00e4four\u00e4\u00f6", "five", "six", "seven"]
    words += ["eight", "nine"]
    rtf = ("{\\rtf1\\ansi " + "\\par\n".join(said * 10) + "}").encode()
    whole = " ".join(words * 10)
    assert completeness.missing_words(io.BytesIO(rtf), "rtf", [("", whole)]) == 0
    assert completeness.missing_words(io.BytesIO(rtf), "rtf", [("", "")]) == 10 * len(words)
    for word in words:
        kept = " ".join(one for one in words * 10 if one != word)
        assert completeness.missing_words(io.BytesIO(rtf), "rtf", [("", kept)]) == 10, word


def test_words_are_compared_in_one_form() -> None:
    made = Document()
    made.add_paragraph("The ﬁrst co\u00adoperation of zero\u200bwidth CAFE\u0301 and snake_case, ten\u2011fold")
    read = "THE FIRST COOPERATION OF ZEROWIDTH café and snake\\_case, ten-fold"
    assert completeness.missing_words(io.BytesIO(_saved(made.save)), "docx", [("", read)]) == 0


@pytest.mark.parametrize("name", formats.FORMATS)
def test_nothing_is_said_of_documents_that_are_whole(name: str) -> None:
    found = documents.read(io.BytesIO(formats.FORMATS[name][0]()), filename=name)
    assert isinstance(found, Extracted)
    assert [one for one in found.left_out if one.what == "words"] == []


def test_words_that_no_reader_reads_are_said() -> None:
    """Whatever the reason: here a comments part that nothing refers to, of a document and of one in an archive."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(docx_file())) as old, zipfile.ZipFile(made, "w") as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
        lines = "".join(f"<w:p><w:r><w:t>lost{number} in the file</w:t></w:r></w:p>" for number in range(30))
        word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
        new.writestr("word/comments.xml", f'<w:comments xmlns:w="{word}"><w:comment>{lines}</w:comment></w:comments>')
    found = documents.read(io.BytesIO(made.getvalue()), filename="a.docx")
    assert isinstance(found, Extracted)
    assert found.left_out == (LeftOut("words", count=120),)
    found = documents.read(io.BytesIO(formats.zipped({"in/a.docx": made.getvalue(), "b.txt": b"b"})), filename="a.zip")
    assert isinstance(found, Extracted)
    assert found.left_out == (LeftOut("words", ("in/a.docx",), 120),)


@pytest.mark.parametrize("form", ["docx", "odt", "doc", "ppt", "xls", "msg", "pdf", "epub", "no_format"])
def test_a_count_that_fails_says_nothing(form: str) -> None:
    assert completeness.missing_words(io.BytesIO(b"PK\x03\x04 is damaged \xff\xfe"), form, [("", "text")]) == 0


def test_a_huge_document_is_not_counted() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"<w:p><w:t>word</w:t></w:p>" * 2_000_000)
    assert completeness.missing_words(made, "docx", [("", "nothing")]) == 0
