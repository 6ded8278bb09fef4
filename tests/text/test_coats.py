"""Files that are called what they are not: pages, tables and Office XML under the names of documents."""

import gzip
import io

import pytest

from airweave_server.text import documents
from airweave_server.text.parts import Extracted

PAGE = (
    "<!DOCTYPE html><html><head><title>Not Found</title></head><body><h1>Error 404</h1><p>No such file.</body></html>"
)


def read(data: bytes | str, name: str) -> Extracted:
    found = documents.read(io.BytesIO(data.encode() if isinstance(data, str) else data), filename=name)
    assert isinstance(found, Extracted), found
    return found


@pytest.mark.parametrize("name", ["x.pdf", "x.docx", "x.doc", "x.txt", "x.md", "x.jpg", "x.log", "x.zip", "x"])
@pytest.mark.parametrize(
    "before", ["", "\ufeff", "\r\n\t ", "<!-- saved -->\n<!-- twice -->\n", '<?xml version="1.0"?>\n']
)
def test_a_page_is_a_page_whatever_it_is_called(name: str, before: str) -> None:
    found = read(before + PAGE, name)
    assert found.kind == "html"
    assert found.text.strip() == "Not Found\n\n# Error 404\n\nNo such file."


def test_a_page_in_another_encoding_is_a_page() -> None:
    assert read(PAGE.encode("utf-16"), "x.pdf").kind == "html"
    assert read(PAGE.encode("utf-16-le"), "x.doc").kind == "html"
    assert read(gzip.compress(PAGE.encode()), "x.html").kind == "html"


def test_a_piece_of_a_page_that_is_called_a_document_is_a_page() -> None:
    found = read("<div class=a><p>Dear &uuml;ser,<br>hello &lt;b&gt;</div>", "letter.doc")
    assert (found.kind, found.text.strip()) == ("html", "Dear üser,\nhello <b>")
    assert read("We use <div> for it.", "letter.doc").kind == "text"


def test_what_speaks_of_pages_is_no_page() -> None:
    assert read("# Pages\n\nA page begins with `<!DOCTYPE html>`.\n", "x.md").kind == "markdown"
    assert read("<html> is the first tag of a page.\n\nMore.", "x.md").kind == "markdown"


SHEET = """<html xmlns:x="urn:schemas-microsoft-com:office:excel"><head><meta charset=utf-8><style>td {}</style>
<!--[if gte mso 9]><xml><x:Name>hidden</x:Name></xml><![endif]--></head><body><h3>Prices of May</h3><table border=1>
<tr><th>Name</th><th>Price</th><th>Note</th></tr>
<tr><td>rope &amp; sail</td><td x:num="5">5,00&nbsp;€</td><td>a<br>b</td></tr>
<tr><td colspan=2>all</td><td>QX-7781 <b>bo</b>ld</td></tr></table><table><tr><td>Id<td>City<tr><td>1<td>Rome</table>"""
LINES = "Prices of May\nName: rope & sail; Price: 5,00 €; Note: a b\nName: all; Note: QX-7781 bold\nId: 1; City: Rome"


@pytest.mark.parametrize("name", ["x.xls", "x.XLSX", "x.csv"])
def test_the_rows_of_a_page_that_is_called_a_sheet_name_their_columns(name: str) -> None:
    found = read(SHEET, name)
    assert (found.kind, found.text.strip()) == ("csv", LINES)
    piece = SHEET[SHEET.index("<table") :]
    assert read(piece, "x.xls").text.strip() == LINES.partition("\n")[2]


def test_a_table_in_a_cell_stays_in_its_cell() -> None:
    inner = "<table><tr><td>2</td><td>3</td></tr></table>"
    page = f"<table><tr><td>a</td><td>b</td></tr><tr><td>1{inner}</td><td>4</td></table>"
    assert read(page, "x.xls").text.strip() == "a: 1 2 3; b: 4"


def test_a_text_with_tabs_that_is_called_a_sheet_has_columns() -> None:
    assert (
        read("Name\tPrice\nrope\t5,00\nsail\t9\n", "x.xls").text.strip()
        == "Name: rope; Price: 5,00\nName: sail; Price: 9"
    )


XML_SHEET = """<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?>
<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet" xmlns:ss="urn:schemas-microsoft-com:office:spreadsheet">
<Styles><Style ss:ID="p"><NumberFormat ss:Format="Percent"/></Style><Style ss:ID="d">
<NumberFormat ss:Format="Short Date"/></Style>
</Styles><Worksheet ss:Name="Budget"><Table><Row><Cell><Data ss:Type="String">Item</Data></Cell>
<Cell ss:Index="3"><Data ss:Type="String">Share</Data></Cell><Cell><Data ss:Type="String">Due</Data></Cell></Row>
<Row ss:Index="5"><Cell ss:MergeAcross="1"><Data ss:Type="String"><B xmlns="http://www.w3.org/TR/REC-html40">Ro</B>pe</Data>
<Comment ss:Author="Ann"><ss:Data>of hemp</ss:Data></Comment></Cell>
<Cell ss:StyleID="p"><Data ss:Type="Number">0.1225</Data></Cell>
<Cell ss:StyleID="d"><Data ss:Type="DateTime">2026-05-01T00:00:00.000</Data></Cell></Row></Table></Worksheet>
<Worksheet ss:Name="Other"><Table><Row><Cell><Data ss:Type="String">Id</Data></Cell></Row>
<Row><Cell><Data ss:Type="Number">7</Data></Cell></Row></Table></Worksheet></Workbook>"""


@pytest.mark.parametrize("name", ["x.xls", "x.xml"])
def test_a_sheet_that_is_xml_is_read(name: str) -> None:
    found = read(XML_SHEET, name)
    assert [section.label for section in found.sections] == ["Sheet Budget", "Sheet Other"]
    assert found.text.split("\n\n") == [
        "Item: Rope; Share: 12.25% (0.1225); Due: 2026-05-01\nItem: [Comment by Ann: of hemp]",
        "Id: 7",
        "",
    ]


WORD = """<?xml version="1.0"?><?mso-application progid="Word.Document"?>
<w:wordDocument xmlns:w="http://schemas.microsoft.com/office/word/2003/wordml"
 xmlns:aml="http://schemas.microsoft.com/aml/2001/core"><w:styles>
<w:style w:styleId="H"><w:name w:val="heading 2"/></w:style>
</w:styles><w:body><w:p><w:pPr><w:pStyle w:val="H"/></w:pPr><w:r><w:t>Install</w:t></w:r></w:p>
<w:p><w:r><w:t>Map&lt;String&gt; QX</w:t><w:noBreakHyphen/><w:t>7781</w:t><w:tab/><w:t>end</w:t></w:r>
<aml:annotation w:type="Word.Deletion"><aml:content><w:r><w:delText>gone</w:delText></w:r></aml:content>
</aml:annotation>
<aml:annotation w:type="Word.Insertion"><aml:content><w:r><w:t> new</w:t></w:r></aml:content></aml:annotation>
<w:r><w:footnote><w:p><w:r><w:t>The note.</w:t></w:r></w:p></w:footnote></w:r>
<aml:annotation aml:author="Ann" w:type="Word.Comment"><aml:content><w:p><w:r><w:t>Why?</w:t></w:r></w:p></aml:content>
</aml:annotation><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>
<w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p><w:p><w:r><w:t>b|c</w:t></w:r></w:p></w:tc>
<w:tc><w:p><w:r><w:t>d</w:t></w:r></w:p></w:tc></w:tr></w:tbl></w:body></w:wordDocument>"""


@pytest.mark.parametrize("name", ["x.doc", "x.xml"])
def test_a_word_document_that_is_xml_is_read(name: str) -> None:
    assert read(WORD, name).text.strip() == (
        "## Install\n\nMap<String> QX-7781 end new[^1]\n\n[^1]: The note.\n\n[Comment by Ann: Why?]\n\n"
        "| a b\\|c | d |\n| --- | --- |"
    )


def test_a_package_that_is_one_xml_file_is_read_as_a_package() -> None:
    main = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    package = f"""<?xml version="1.0"?><?mso-application progid="Word.Document"?>
<pkg:package xmlns:pkg="http://schemas.microsoft.com/office/2006/xmlPackage"><pkg:part pkg:name="/_rels/.rels"
 pkg:contentType="application/vnd.openxmlformats-package.relationships+xml"><pkg:xmlData><Relationships
 xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" Type="{relation}"
 Target="word/document.xml"/></Relationships></pkg:xmlData></pkg:part><pkg:part pkg:name="/word/document.xml"
 pkg:contentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"><pkg:xmlData>
<w:document xmlns:w="{main}"><w:body><w:p><w:r><w:t>Größe of one</w:t></w:r></w:p></w:body></w:document>
</pkg:xmlData></pkg:part></pkg:package>"""
    assert read(package, "x.xml").text.strip() == "Größe of one"


MESSAGE = """MIME-Version: 1.0
Content-Type: multipart/related; boundary="b"

--b
Content-Type: text/html; charset="utf-8"
Content-Transfer-Encoding: quoted-printable

<html><body><p>Gr=C3=B6=C3=9Fe of Word</p></body></html>
--b--
"""


def test_a_word_document_that_is_a_message_is_read_as_one() -> None:
    found = read(MESSAGE, "x.doc")
    assert found.text.strip() == "Größe of Word"
    assert "email" in found.formats


def test_a_pdf_after_the_headers_of_an_answer_is_a_pdf() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n" + documents.SAMPLES["a.pdf"]
    assert documents.read(io.BytesIO(answer), filename="x.pdf") == documents.read(
        io.BytesIO(documents.SAMPLES["a.pdf"]), filename="x.pdf"
    )


@pytest.mark.parametrize(
    "page",
    [
        "<table>" * 100_000,
        "<table><tr>" + "<td colspan=99999>x" * 100_000,
        "<table>" + "<tr><td colspan=1000>x" * 20_000,
        "<tr>" * 200_000,
        "<table><tr><td>" + "<!--" * 200_000,
    ],
)
def test_hostile_tables_are_harmless(page: str) -> None:
    documents.read(io.BytesIO(page.encode()), filename="x.xls")
