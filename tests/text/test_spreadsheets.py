"""Spreadsheets: a cell reads as a person sees it, and what is drawn or noted on a sheet is read too."""

import io
import random
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

import formats
from airweave_server.text.documents import read
from airweave_server.text.parts import Extracted, LeftOut

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
A = "http://schemas.openxmlformats.org/drawingml/2006/main"
XDR = "http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing"
MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"
THREADS = "http://schemas.microsoft.com/office/spreadsheetml/2018/threadedcomments"


@dataclass
class Workbook:
    """``sheets``: what is in the worksheet element, by name; ``formats``: the code of each cell style; ``relations``:
    (type, target) of "workbook", "sheet1" and so on."""

    sheets: dict[str, str]
    strings: str = ""
    formats: list[str] = field(default_factory=list)
    parts: dict[str, str | bytes] = field(default_factory=dict)
    relations: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    properties: str = ""

    def data(self) -> bytes:
        names = enumerate(self.sheets, 1)
        sheets = "".join(f'<sheet name="{name}" sheetId="{i}" r:id="rId{i}"/>' for i, name in names)
        own = [("worksheet", f"worksheets/sheet{i}.xml") for i in range(1, len(self.sheets) + 1)]
        own += [("sharedStrings", "sharedStrings.xml"), ("styles", "styles.xml")]
        codes = "".join(
            f'<numFmt numFmtId="{200 + i}" formatCode="{code.replace(chr(34), "&quot;")}"/>'
            for i, code in enumerate(self.formats)
        )
        styles = "".join(f'<xf numFmtId="{200 + i}"/>' for i in range(len(self.formats)))
        parts: dict[str, str | bytes] = {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": formats.relations([("officeDocument", "xl/workbook.xml")]),
            "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{R}">{self.properties}<sheets>{sheets}</sheets>'
            "</workbook>",
            "xl/_rels/workbook.xml.rels": formats.relations(own + self.relations.get("workbook", [])),
            "xl/sharedStrings.xml": f'<sst xmlns="{MAIN}">{self.strings}</sst>',
            "xl/styles.xml": f'<styleSheet xmlns="{MAIN}"><numFmts>{codes}</numFmts><cellXfs>{styles}</cellXfs>'
            "</styleSheet>",
        }
        for i, body in enumerate(self.sheets.values(), 1):
            parts[f"xl/worksheets/sheet{i}.xml"] = f'<worksheet xmlns="{MAIN}" xmlns:r="{R}">{body}</worksheet>'
            parts[f"xl/worksheets/_rels/sheet{i}.xml.rels"] = formats.relations(self.relations.get(f"sheet{i}", []))
        return formats.zipped(parts | self.parts)

    def read(self) -> Extracted:
        found = read(io.BytesIO(self.data()), filename="a.xlsx")
        assert isinstance(found, Extracted), found
        return found

    def text(self) -> str:
        return self.read().text


def said(text: str, place: str = "") -> str:
    reference = f'r="{place}"' if place else ""
    return f'<c {reference} t="inlineStr"><is><t>{text}</t></is></c>'


def row(*cells: str, number: int | None = None) -> str:
    return f"<row{f' r={chr(34)}{number}{chr(34)}' if number else ''}>{''.join(cells)}</row>"


def rows(*found: str) -> str:
    return f"<sheetData>{''.join(found)}</sheetData>"


def sheet_of(*found: str, **other: object) -> Workbook:
    return Workbook({"One": rows(*found)}, **other)  # type: ignore[arg-type]


def test_numbers_read_as_they_are_shown() -> None:
    formats = ["General", "0.00%", "00000", "[h]:mm", "dd/mm/yyyy"]
    values = ("1234567890123456", "0.1225", "1067", "1.0625", "46353")
    names = row(*map(said, ("Card", "Rate", "Zip", "Time", "Day")))
    cells = "".join(f'<c s="{style}"><v>{value}</v></c>' for style, value in enumerate(values))
    assert sheet_of(names, row(cells), formats=formats).text() == (
        "Card: 1234567890123456; Rate: 12.25% (0.1225); Zip: 01067 (1067); Time: 25:30; "
        "Day: 27/11/2026 (2026-11-27)\n\n"
    )


def test_every_type_of_cell_is_read() -> None:
    strings = (
        "<si><t>plain</t></si><si><r><t>rich </t></r><r><t xml:space='preserve'> text</t></r>"
        "<rPh sb='0' eb='1'><t>phonetic</t></rPh></si><si><t>a_x000D_b_x005F_x0041_ &lt;T&gt; *c_d*\\ so\u00adft</t>"
        "</si>"
    )
    cells = (
        '<c t="s"><v>0</v></c><c t="s"><v>1</v></c><c t="s"><v>2</v></c><c t="s"><v>77</v></c>'
        '<c t="b"><v>1</v></c><c t="e"><v>#N/A</v></c><c t="str"><f>A1&amp;"x"</f><v>computed</v></c>'
        '<c><f>1+1</f><v>2</v></c><c t="d"><v>2026-11-27T00:00:00</v></c>'
    )
    text = sheet_of(row(cells), strings=strings, formats=["yyyy-mm-dd"]).text()
    assert text == ("plain; rich text; a b_x0041_ <T> *c_d*\\ soft; TRUE; #N/A; computed; 1900-01-02; 2026-11-27\n\n")
    assert "phonetic" not in text


def test_a_formula_without_a_value_is_said() -> None:
    cells = (
        '<c t="str"><f>IF(1,"")</f><v></v></c><c><f>A1</f></c><c><f>HYPERLINK("http://x","Our ""page""")</f><v/></c>'
    )
    found = sheet_of(row(said("a"), cells)).read()
    assert found.text == 'a; Our "page"\n\n'
    assert found.left_out == (LeftOut("formula", ("Sheet One",), 1, "the file has no value of a formula"),)


def test_comments_stand_below_their_cells_and_a_thread_once() -> None:
    comments = (
        f'<comments xmlns="{MAIN}"><authors><author>Ann</author><author>tc={{1}}</author></authors><commentList>'
        '<comment ref="B2" authorId="0"><text><r><t>Ann:\n</t></r><r><t>net of tax</t></r></text></comment>'
        '<comment ref="A3" authorId="1"><text><t>[Threaded comment] old copy</t></text></comment>'
        '<comment ref="A9" authorId="7"><text><t>on nothing</t></text></comment></commentList></comments>'
    )
    threads = (
        f'<ThreadedComments xmlns="{THREADS}"><threadedComment ref="A3" personId="p"><text>why?</text>'
        "</threadedComment>"
        '<threadedComment ref="A3" personId="q"><text>so</text></threadedComment></ThreadedComments>'
    )
    people = '<person id="p" displayName="Bob"/><person id="q" displayName="Cy"/>'
    people = f'<personList xmlns="{THREADS}">{people}</personList>'
    table = row(said("Name"), said("Cost")), row(said("a"), "<c><v>1</v></c>"), row(said("b"), "<c><v>2</v></c>")
    book = sheet_of(*table)
    book.parts = {"xl/comments1.xml": comments, "xl/threads.xml": threads, "xl/persons/person.xml": people}
    book.relations = {
        "workbook": [("person", "persons/person.xml")],
        "sheet1": [("comments", "../comments1.xml"), ("threadedComment", "../threads.xml")],
    }
    assert book.text() == (
        "Name: a; Cost: 1\nCost: [Comment by Ann: net of tax]\nName: b; Cost: 2\nName: [Comment by Bob: why?]\n"
        "Name: [Comment by Cy: so]\nName: [Comment: on nothing]\n\n"
    )


def test_drawings_page_headers_and_embedded_documents_are_read_once() -> None:
    def box(text: str) -> str:
        return f"<xdr:sp><xdr:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></xdr:txBody></xdr:sp>"

    drawing = (
        f'<xdr:wsDr xmlns:xdr="{XDR}" xmlns:a="{A}" xmlns:mc="{MC}" xmlns:r="{R}"><xdr:twoCellAnchor>{box("in a box")}'
        f'</xdr:twoCellAnchor><mc:AlternateContent><mc:Choice Requires="a14">'
        f"<xdr:twoCellAnchor>{box('Button 1')}"
        "</xdr:twoCellAnchor></mc:Choice><mc:Fallback/></mc:AlternateContent><xdr:oneCellAnchor><xdr:pic>"
        '<xdr:nvPicPr><xdr:cNvPr descr="a logo"/></xdr:nvPicPr></xdr:pic></xdr:oneCellAnchor></xdr:wsDr>'
    )
    vml = (
        '<xml xmlns:v="urn:v" xmlns:x="urn:x"><v:shape id="1"><v:textbox><div>Button 1<br></div></v:textbox>'
        '<x:ClientData ObjectType="Button"/></v:shape><v:shape id="2"><v:textbox><div>Press &amp; hold</div>'
        '</v:textbox></v:shape><v:shape id="3"><v:textbox><div>a note</div></v:textbox>'
        '<x:ClientData ObjectType="Note"/></v:shape></xml>'
    )
    header = (
        '<headerFooter><oddHeader>&amp;L&amp;"Arial,Bold"&amp;12Our &amp;&amp; Co&amp;RPage &amp;P of &amp;N'
        "</oddHeader>"
        "<oddFooter>&amp;C&amp;KFF0000Secret&amp;D</oddFooter></headerFooter>"
    )
    body = rows(row(said("cell")))
    book = Workbook({"One": body + header, "Two": body + header})
    book.parts = {"xl/drawings/d.xml": drawing, "xl/drawings/v.vml": vml}
    book.parts["xl/embeddings/notes.csv"] = "Name,Amount\npear,4\n"
    book.relations["sheet1"] = [
        ("vmlDrawing", "../drawings/v.vml"),
        ("drawing", "../drawings/d.xml"),
        ("package", "../embeddings/notes.csv"),
        ("oleObject", "../embeddings/gone.bin"),
    ]
    found = book.read()
    assert found.text == (
        "cell\n\nin a box\n\nButton 1\n\n[Image: a logo]\n\nPress & hold\n\nOur & Co Page of\n\nSecret\n\n"
        "Name: pear; Amount: 4\n\ncell\n\n"
    )
    labels = [section.label for section in found.sections]
    assert labels == ["Sheet One", "Sheet One", "Sheet One > notes.csv", "Sheet Two"]
    assert {(one.what, one.where) for one in found.left_out} == {
        ("image", ("Sheet One",)),
        ("object", ("Sheet One > gone.bin",)),
    }


def test_a_chart_says_its_titles_series_and_categories_and_no_values_that_cells_have() -> None:
    space = "http://schemas.openxmlformats.org/drawingml/2006/chart"
    chart = (
        f'<c:chartSpace xmlns:c="{space}" xmlns:a="{A}"><c:chart><c:title><c:tx><c:rich><a:p><a:r>'
        "<a:t>Sales</a:t></a:r></a:p></c:rich></c:tx></c:title><c:plotArea><c:barChart><c:ser><c:tx><c:strRef><c:strCache>"
        '<c:pt idx="0"><c:v>Apples</c:v></c:pt></c:strCache></c:strRef></c:tx><c:cat><c:strRef><c:strCache>'
        '<c:pt idx="0"><c:v>North</c:v></c:pt><c:pt idx="1"><c:v>South</c:v></c:pt></c:strCache></c:strRef></c:cat>'
        '<c:val><c:numRef><c:numCache><c:pt idx="0"><c:v>4711</c:v></c:pt></c:numCache></c:numRef></c:val></c:ser>'
        "</c:barChart></c:plotArea></c:chart></c:chartSpace>"
    )
    drawing = (
        f'<xdr:wsDr xmlns:xdr="{XDR}" xmlns:a="{A}" xmlns:r="{R}"><xdr:twoCellAnchor><xdr:graphicFrame><a:graphic>'
        f'<a:graphicData><c:chart xmlns:c="{space}" r:id="rId1"/></a:graphicData></a:graphic></xdr:graphicFrame>'
        "</xdr:twoCellAnchor></xdr:wsDr>"
    )
    book = sheet_of(row(said("cell")))
    book.parts = {
        "xl/charts/c.xml": chart,
        "xl/drawings/d.xml": drawing,
        "xl/drawings/_rels/d.xml.rels": formats.relations([("chart", "../charts/c.xml")]),
    }
    book.relations["sheet1"] = [("drawing", "../drawings/d.xml")]
    assert book.text() == "cell\n\nSales\n\nApples\n\nNorth; South\n\n"


def test_a_missing_or_damaged_part_is_said_and_the_rest_is_read() -> None:
    book = Workbook({"One": rows(row(said("first"))) + "<open>", "Gone": "", "Three": rows(row(said("third")))})
    book.relations = {"sheet3": [("comments", "../none.xml"), ("drawing", "../none.xml")]}
    book.parts = {"xl/styles.xml": "<broken"}
    data = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book.data())) as old, zipfile.ZipFile(data, "w") as new:
        for name in old.namelist():
            if name != "xl/worksheets/sheet2.xml":
                new.writestr(name, old.read(name))
    found = read(data, filename="a.xlsx")
    assert isinstance(found, Extracted)
    assert found.text == "first\n\nthird\n\n"
    assert [(one.what, one.where[0]) for one in found.left_out] == [
        ("damaged", "styles.xml"),
        ("damaged", "Sheet One"),
        ("damaged", "Sheet Gone"),
        ("damaged", "Sheet Three"),
        ("damaged", "Sheet Three"),
    ]


def test_entities_that_a_workbook_declares_are_not_expanded_and_what_stands_before_them_is_read() -> None:
    """As Excel's own guard: a million laughs in the shared strings, and in an attribute of a sheet."""
    declared = (
        '<?xml version="1.0"?><!DOCTYPE x [<!-- it\'s "one" ]> --><?a ]> ?><!ENTITY a "ha ]>">'
        + "".join(f'<!ENTITY {chr(c + 1)} "{f"&{chr(c)};" * 10}">' for c in range(97, 110))
        + "]>"
    )
    strings = f'{declared}<sst xmlns="{MAIN}"><si><t>first</t></si><si><t>laugh &n; again</t></si></sst>'
    sheet = row('<c t="s"><v>0</v></c><c t="s"><v>1</v></c><c><v>7</v></c>')
    book = sheet_of(sheet)
    book.parts["xl/sharedStrings.xml"] = strings
    found = book.read()
    assert found.text == "first; 7\n\n"
    assert found.left_out == (LeftOut("damaged", ("sharedStrings.xml",)),)
    book = sheet_of("")
    attribute = '<row a="&n;"><c><v>9</v></c></row>'
    book.parts["xl/worksheets/sheet1.xml"] = (
        f'{declared}<worksheet xmlns="{MAIN}"><sheetData>{row(said("well"))}{attribute}</sheetData></worksheet>'
    )
    began_at = time.process_time()
    found = book.read()
    assert time.process_time() - began_at < 1
    assert found.text == "well\n\n"
    assert [one.what for one in found.left_out] == ["damaged"]


def test_places_may_be_far_missing_or_wrong() -> None:
    cells = row(said("a", "B1"), said("b"), said("c", "A1")), row(said("far", "XFD1048576"), number=1_048_576)
    assert sheet_of(*cells).text() == "c; a; b\nfar\n\n"
    assert sheet_of(row(said("x", "!!"), said("y", "ZZZZ9"), number=99_999_999)).text() == "x; y\n\n"


def test_columns_far_apart_take_bounded_time() -> None:
    wide = "".join(row(said(f"left{i}"), said(f"right {i}", f"XFD{i}"), number=i) for i in range(1, 2_001))
    began_at = time.process_time()
    text = sheet_of(wide).text()
    assert time.process_time() - began_at < 10  # two thousand rows of 16,384 cells would take a minute
    assert text.count("; right ") == 2_000


def test_a_title_is_no_header_and_a_row_is_found_by_its_own_values() -> None:
    names = row(said("Part"), said("Price"), said("Place"))
    title = row(said("Price list of November"))
    body = [row(said(f"QX-{i}"), f"<c><v>{i}</v></c>", said(f"shelf {i}")) for i in range(60)]
    text = sheet_of(title, row(), names, *body[:30], names, *body[30:]).text()
    lines = text.strip().split("\n")
    assert lines[0] == "Price list of November"
    assert lines[31] == "Part: QX-30; Price: 30; Place: shelf 30"
    assert len(lines) == 61


def test_dates_count_from_1904_if_the_workbook_says_so() -> None:
    cells = row('<c s="0"><v>44891</v></c>')
    assert sheet_of(cells, formats=["yyyy-mm-dd"], properties='<workbookPr date1904="1"/>').text() == "2026-11-27\n\n"


def test_names_of_parts_may_be_written_in_any_case_and_with_backslashes() -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sheet_of(row(said("words"))).data())) as old, zipfile.ZipFile(data, "w") as new:
        for name in old.namelist():
            new.writestr(name.replace("/", "\\").replace("workbook.xml", "Workbook.XML"), old.read(name))
        for one in new.infolist():
            one.filename = one.filename.replace("/", "\\")
    found = read(data, filename="a.xlsx")
    assert isinstance(found, Extracted)
    assert found.text == "words\n\n"
    assert found.formats == {"xlsx"}


def test_a_binary_workbook_reads_as_its_twin_in_xml() -> None:
    found = read(io.BytesIO(formats.binary_workbook()), filename="a.xlsb")
    assert isinstance(found, Extracted)
    assert found.text == (
        "Name: apple; Amount: 3; Rate: 12.25% (0.1225)\nAmount: [Comment by Ann: net]\n"
        "Name: pear; Amount: 4; Rate: TRUE; #N/A; rich\n\nCompany\n\n"
    )
    assert found.formats == {"xlsb"}
    assert not found.left_out


def test_a_binary_workbook_that_is_damaged_keeps_the_rows_before() -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(formats.binary_workbook())) as old, zipfile.ZipFile(data, "w") as new:
        for name in old.namelist():
            whole = old.read(name)
            new.writestr(
                name, whole[:-80] if name.endswith("sheet1.bin") else b"" if "strings" in name.lower() else whole
            )
    found = read(data, filename="a.xlsb")
    assert isinstance(found, Extracted)
    assert "apple; 3; Rate: 12.25% (0.1225)" in found.text
    assert found.left_out == (LeftOut("damaged", ("Sheet Binary",), note="it is damaged or cut short"),)


NOISE = f"<!-- {random.Random(7).randbytes(300_000).hex()} -->"  # so that the file is not taken for a bomb


def endless_xlsx() -> bytes:
    return Workbook({"One": NOISE + rows(row("<c><v>7</v></c>" * 8) * 250_000)}).data()


def endless_ods() -> bytes:
    space = "urn:oasis:names:tc:opendocument:xmlns"
    cell = "<t:table-cell><x:p>7</x:p></t:table-cell>"
    content = f'<a xmlns:t="{space}:table:1.0" xmlns:x="{space}:text:1.0"><t:table t:name="One">'
    content += f"<t:table-row>{cell * 8}</t:table-row>" * 120_000 + f"</t:table>{NOISE}</a>"
    return formats.opened_with("spreadsheet", content.encode())


@pytest.mark.parametrize("make", [endless_xlsx, endless_ods])
def test_a_sheet_with_more_rows_than_there_is_time_for_is_read_up_to_there(make: Callable[[], bytes]) -> None:
    data = make()
    found = read(io.BytesIO(data), filename="a.bin", seconds=1.0)
    assert isinstance(found, Extracted)
    assert found.text.startswith("7")
    assert found.left_out == (LeftOut("rest", ("Sheet One",), note="what comes after 0.7 s of reading"),)


def test_hostile_sheets_cost_bounded_time_and_memory() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "haha">]><worksheet xmlns="' + MAIN.encode() + b'"><sheetData/></worksheet>'
    empty = (
        f'<worksheet xmlns="{MAIN}"><sheetData>{"<row/>" * 300_000}{"<c s=%s/>" % (chr(34) + "1" + chr(34)) * 300_000}'
    )
    deep = f'<worksheet xmlns="{MAIN}"><sheetData>{"<a>" * 300_000}'
    far = row(*(said(str(i), f"XFD{i % 9}") for i in range(100_000)))
    for hostile in (
        bomb,
        empty + "</sheetData></worksheet>",
        deep,
        f'<worksheet xmlns="{MAIN}">{rows(far)}</worksheet>',
    ):
        book = Workbook({"One": "", "Two": rows(row(said("well")))})
        book.parts["xl/worksheets/sheet1.xml"] = hostile
        began_at = time.process_time()
        found = book.read()
        assert time.process_time() - began_at < 10
        assert "well" in found.text
        assert len(found.text) < 100
