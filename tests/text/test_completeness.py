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
from openpyxl.chart import BarChart, Reference
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


def _message(*, header: str) -> bytes:
    return f"{header}\n\n{' '.join(PARAGRAPHS[:10])}\n".encode()


def test_people_of_a_message_are_counted_and_hide_no_loss_of_its_body() -> None:
    people = ", ".join(f"Person{number} Example <person{number}@example.com>" for number in range(10))
    header = f"Subject: A subject\nFrom: one@example.com\nTo: {people}\nDate: Fri, 26 Nov 2004 19:41:44 -0800"
    file = io.BytesIO(_message(header=header))
    body = " ".join(PARAGRAPHS[:10])
    assert completeness.missing_words(file, "email", [("", f"{header}\n\n{body}")]) == 0
    assert completeness.missing_words(file, "email", [("", body)]) == pytest.approx(68, rel=0.1)
    kept = " ".join(PARAGRAPHS[:7])
    assert completeness.missing_words(file, "email", [("", f"{header}\n\n{kept}")]) == pytest.approx(60, rel=0.1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_loss_in_plain_text_is_counted(encoding: str) -> None:
    file = io.BytesIO("\n".join(["gr\u00f6\u00dfer", *PARAGRAPHS]).encode(encoding))
    whole = "\n".join(["gr\u00f6\u00dfer", *PARAGRAPHS])
    assert completeness.missing_words(file, "text", [("", whole)]) == 0
    assert completeness.missing_words(file, "text", [("", "\n".join(PARAGRAPHS[5:]))]) == pytest.approx(101, rel=0.1)


@pytest.mark.parametrize("encoding", ["utf-16-le", "iso2022_jp", "euc_jp", "cp1251", "shift_jis"])
def test_plain_text_of_a_guessed_encoding_that_is_whole_is_not_called_incomplete(encoding: str) -> None:
    words = {"cp1251": "\u0441\u043b\u043e\u0432\u0430 \u0442\u0435\u043a\u0441\u0442\u0430"}.get(
        encoding, "\u8a00\u8449 \u6587\u7ae0"
    )
    text = "\n".join(f"{words} line{number}" for number in range(60))
    assert completeness.missing_words(io.BytesIO(text.encode(encoding)), "text", [("", text)]) == 0


def test_files_in_an_archive_that_are_text_are_counted_as_they_are() -> None:
    data = formats.zipped(
        {"a.txt": "\n".join(PARAGRAPHS).encode(), "b.py": b"x_y = 1  # " + " ".join(PARAGRAPHS).encode()}
    )
    found = documents.read(io.BytesIO(data), filename="a.zip")
    assert isinstance(found, Extracted)
    assert found.left_out == ()


def _pdf_with_comments(lines: list[str], comments: list[str]) -> bytes:
    shown = "\n".join(f"1 0 0 1 50 {700 - 15 * place} Tm ({line}) Tj" for place, line in enumerate(lines))
    notes = [
        f"<</Type/Annot/Subtype/Text/Rect[0 0 9 9]/T(Someone)/Contents({comment})>>".encode() for comment in comments
    ]
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 900 900]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>"
    return formats.raw_pdf(
        [
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Count 1/Kids[3 0 R]>>",
            page + b"/Annots[" + b"".join(notes) + b"]>>",
            formats.pdf_stream(f"BT /F1 5 Tf {shown} ET".encode()),
            b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        ]
    )


def test_comments_of_a_page_are_counted_and_hide_no_loss_of_its_glyphs() -> None:
    comments = [f"Comment{number} that says quite a few other words" for number in range(10)]
    data = _pdf_with_comments(PARAGRAPHS[:5], comments)
    found = documents.read(io.BytesIO(data), filename="a.pdf")
    assert isinstance(found, Extracted)
    assert found.text.count("[Comment by Someone: ") == 10
    assert found.left_out == ()
    said = [f"[Comment by Someone: {one}]" for one in comments]
    file = io.BytesIO(data)
    kept = [("Page 1", "\n".join([*PARAGRAPHS[:5], *said[:4]]))]
    assert completeness.missing_words(file, "pdf", kept) == pytest.approx(48, rel=0.15)
    kept = [("Page 1", "\n".join([*PARAGRAPHS[:3], *said]))]
    assert completeness.missing_words(file, "pdf", kept) == pytest.approx(40, rel=0.1)


def test_charts_of_an_open_document_are_counted_with_their_numbers() -> None:
    cells = "".join(
        f"<table:table-row><table:table-cell><text:p>Place{row}</text:p></table:table-cell>"
        f"<table:table-cell><text:p>{row}.5</text:p></table:table-cell></table:table-row>"
        for row in range(10, 40)
    )
    chart = (
        "<office:document-content><office:body><office:chart><chart:title><text:p>Sales of all</text:p></chart:title>"
        f"<table:table>{cells}</table:table></office:chart></office:body></office:document-content>"
    )
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(odt_file())) as old, zipfile.ZipFile(made, "w") as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
        new.writestr("Object 1/content.xml", chart)
    said = "\n".join(["Sales of all", *(f"| Place{row} | {row}.5 |" for row in range(10, 40))])
    whole = "\n".join(PARAGRAPHS)
    assert completeness.missing_words(made, "odt", [("", f"{whole}\n{said}")]) == 0
    assert completeness.missing_words(made, "odt", [("", whole)]) == 93


def test_cells_that_stand_several_times_errors_and_truths_are_counted() -> None:
    made = io.BytesIO()
    cell = '<table:table-cell table:number-columns-repeated="20"><text:p>same value</text:p></table:table-cell>'
    empty = '<table:table-cell table:number-columns-repeated="9000"/>'
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("content.xml", f"<office:body><table:table-row>{cell}{empty}</table:table-row></office:body>")
    assert completeness.missing_words(made, "ods", [("", "same value; " * 20)]) == 0
    assert completeness.missing_words(made, "ods", [("", "same value")]) == 38
    made = io.BytesIO()
    rows = '<c r="A1" t="e"><v>#REF!</v></c><c r="B1" t="b"><v>1</v></c>' * 30
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", f"<worksheet>{rows}</worksheet>")
    assert completeness.missing_words(made, "xlsx", [("", "#REF!; TRUE\n" * 30)]) == 0
    assert completeness.missing_words(made, "xlsx", [("", "#REF!; TRUE\n" * 20)]) == 20


def test_a_number_that_is_lost_is_not_found_in_one_to_which_it_may_be_rounded() -> None:
    made = Workbook()
    for row in range(60):
        made.active.append([row + 0.44, row])
        made.active.cell(row + 1, 1).number_format = "0.0"
        made.active.cell(row + 1, 2).number_format = "0.0"
    file = io.BytesIO(_saved(made.save))
    whole = [f"{row}.4; {row}.0" for row in range(60)]
    assert completeness.missing_words(file, "xlsx", [("", "\n".join(whole))]) == 0
    lost = "\n".join(f"{row}.0" if row < 30 else line for row, line in enumerate(whole))
    assert completeness.missing_words(file, "xlsx", [("", lost)]) == pytest.approx(60, rel=0.1)


def test_a_number_that_is_lost_counts_the_words_of_its_own_format() -> None:
    """Other cells hold the same values in another format, and texts of cells the same numbers."""
    made = Workbook()
    for row in range(40):
        made.active.append([1_000_000 + row, 1_000_000 + row, f"{1_000_000 + row}"])
        made.active.cell(row + 1, 1).number_format = "#,##0"
    file = io.BytesIO(_saved(made.save))
    whole = [f"{1_000_000 + row:,} ({1_000_000 + row}); {1_000_000 + row}; {1_000_000 + row}" for row in range(40)]
    assert completeness.missing_words(file, "xlsx", [("", "\n".join(whole))]) == 0
    plain = [f"{1_000_000 + row:,} ({1_000_000 + row})" if row < 30 else line for row, line in enumerate(whole)]
    assert completeness.missing_words(file, "xlsx", [("", "\n".join(plain))]) == pytest.approx(60, rel=0.1)


def test_texts_of_cells_that_are_lost_are_not_found_in_numbers() -> None:
    made = Workbook()
    for row in range(40):
        made.active.append([f"sample {row} of 7", row, 7])
    file = io.BytesIO(_saved(made.save))
    whole = [f"sample {row} of 7; {row}; 7" for row in range(40)]
    assert completeness.missing_words(file, "xlsx", [("", "\n".join(whole))]) == 0
    lost = "\n".join(f"{row}; 7" if row < 30 else line for row, line in enumerate(whole))
    assert completeness.missing_words(file, "xlsx", [("", lost)]) == pytest.approx(120, rel=0.1)


def test_categories_of_a_chart_hide_no_loss_of_the_cells_that_hold_them() -> None:
    made = Workbook()
    labels = [f"line{row} of{row} words{row}" for row in range(30)]
    for row, label in enumerate(labels):
        made.active.append([label, row])
    chart = BarChart()
    chart.add_data(Reference(made.active, min_col=2, min_row=1, max_row=30))
    chart.set_categories(Reference(made.active, min_col=1, min_row=1, max_row=30))
    made.active.add_chart(chart, "D1")
    points = "".join(f'<c:pt idx="{row}"><c:v>{label}</c:v></c:pt>' for row, label in enumerate(labels))
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_saved(made.save))) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            data = source.read(name).decode()
            if "charts/chart" in name:  # as Excel writes it: with the values at the time
                data = data.replace("<cat>", "<c:cat><c:strCache>" + points + "</c:strCache></c:cat><cat>")
            target.writestr(name, data)
    drawn = "; ".join(labels)
    whole = [*(f"{label}; {row}" for row, label in enumerate(labels)), "", drawn]
    assert completeness.missing_words(file, "xlsx", [("", "\n".join(whole))]) == 0
    assert completeness.missing_words(file, "xlsx", [("", "\n".join(whole[20:]))]) == pytest.approx(80, rel=0.1)
    assert completeness.missing_words(file, "xlsx", [("", "\n".join(whole[:30]))]) == pytest.approx(90, rel=0.1)


def test_names_of_columns_that_are_texts_and_numbers_of_cells_too_hide_no_loss() -> None:
    made = Workbook()
    made.active.append(["same", "2005"])
    made.active.cell(1, 2).value = 2005
    for _ in range(60):
        made.active.append(["same", 2005])
    file = io.BytesIO(_saved(made.save))
    lines = ["same: same; 2005: 2005"] * 60
    assert completeness.missing_words(file, "xlsx", [("", "\n".join(lines))]) == 0
    assert completeness.missing_words(file, "xlsx", [("", "\n".join(lines[:30]))]) >= 30


def test_descriptions_charts_and_footers_of_slides_are_counted() -> None:
    def shape(kind: str, text: str) -> str:
        return f'<p:sp><p:nvPr><p:ph type="{kind}"/></p:nvPr><a:p><a:t>{text}</a:t></a:p></p:sp>'

    described = {1: "a picture of some kind " * 4, 2: "another one of them all " * 4}
    values = "".join(f"<c:pt><c:v>{number}.25</c:v></c:pt>" for number in range(20))
    names = "".join(f"<c:pt><c:v>Place{number}</c:v></c:pt>" for number in range(20))
    category = f"<c:cat><c:strRef><c:strCache>{names}</c:strCache></c:strRef></c:cat>"
    series = f"<c:ser>{category}<c:val><c:numRef><c:numCache>{values}</c:numCache></c:numRef></c:val></c:ser>"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        links = "".join(f'<Relationship Target="slides/slide{number}.xml"/>' for number in (1, 2))
        archive.writestr("ppt/_rels/presentation.xml.rels", links)
        for number in (1, 2):
            picture = f'<p:nvPicPr><p:cNvPr id="1" name="x" descr="{described[number]}"/></p:nvPicPr>'
            furniture = shape("ftr", "a footer of all of the slides")
            archive.writestr(f"ppt/slides/slide{number}.xml", f"<p:sld>{furniture}{picture}</p:sld>")
        archive.writestr("ppt/charts/chart1.xml", f"<c:chart>{series}{series}</c:chart>")
    pictures = [described[number] for number in (1, 2)]
    chart = [f"| Place{number} | {number}.25 | {number}.25 |" for number in range(20)]
    footer = ["a footer of all of the slides"]
    assert completeness.missing_words(made, "pptx", [("", "\n".join(pictures + chart + footer))]) == 0
    assert completeness.missing_words(made, "pptx", [("", "\n".join(pictures + footer))]) == pytest.approx(100, rel=0.1)
    assert completeness.missing_words(made, "pptx", [("", "\n".join(chart + footer))]) == 40
    assert completeness.missing_words(made, "pptx", [("", "\n".join(pictures[:1] + chart))]) == 27
