"""Plain paragraphs of Word documents are taken without a parser: the text is the same as with one."""

import io
import random
import zipfile

import pytest

import formats
from airweave_server.text import docx, docx_plain, xml
from airweave_server.text.parts import Part, Unparseable

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
STYLES = (
    '<w:style w:type="paragraph" w:styleId="H"><w:name w:val="heading 2"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="L"><w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style>'
    '<w:style w:type="character" w:styleId="P"><w:name w:val="Placeholder Text"/></w:style>'
)
LEVELS = "".join(
    f'<w:lvl w:ilvl="{level}"><w:numFmt w:val="decimal"/><w:lvlText w:val="%{level + 1}."/></w:lvl>'
    for level in range(3)
)
PARTS = {
    "[Content_Types].xml": "<Types/>",
    "_rels/.rels": f'<Relationships xmlns="{PACKAGE}"><Relationship Id="r1" Type="{OFFICE}/officeDocument" '
    'Target="word/document.xml"/></Relationships>',
    "word/_rels/document.xml.rels": f'<Relationships xmlns="{PACKAGE}">'
    f'<Relationship Id="r1" Type="{OFFICE}/styles" Target="styles.xml"/>'
    f'<Relationship Id="r2" Type="{OFFICE}/numbering" Target="numbering.xml"/></Relationships>',
    "word/styles.xml": f'<w:styles xmlns:w="{WORD}">{STYLES}</w:styles>',
    "word/numbering.xml": f'<w:numbering xmlns:w="{WORD}"><w:abstractNum w:abstractNumId="0">{LEVELS}</w:abstractNum>'
    '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num></w:numbering>',
}


def run(text: str = "one two", properties: str = "") -> str:
    return f"<w:r>{properties}<w:t>{text}</w:t></w:r>"


def paragraph(*runs: str, properties: str = "") -> str:
    return f"<w:p>{f'<w:pPr>{properties}</w:pPr>' if properties else ''}{''.join(runs)}</w:p>"


def row(*cells: str) -> str:
    return f"<w:tr>{''.join(f'<w:tc>{cell}</w:tc>' for cell in cells)}</w:tr>"


def table(*rows: str) -> str:
    return f"<w:tbl>{''.join(rows)}</w:tbl>"


def style(name: str) -> str:
    return f'<w:pStyle w:val="{name}"/>'


def mark(kind: str) -> str:
    return f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>'


P = paragraph(run())
NUMBERED = '<w:numPr><w:ilvl w:val="1"/><w:numId w:val="1"/></w:numPr>'
PIECES = {
    "runs": '<w:p w:rsidR="00A"><w:r w:rsidRPr="00B"><w:rPr><w:b/><w:sz w:val="22"/></w:rPr>'
    '<w:t xml:space="preserve">one </w:t></w:r><w:proofErr w:type="spellStart"/>'
    "<w:r><w:lastRenderedPageBreak/><w:t>two</w:t></w:r></w:p>",
    "style": paragraph(run(), properties=style("H") + '<w:jc w:val="left"/>'),
    "unknown style": paragraph(run(), properties=style("\u00dcberschrift")),
    "list of the style": paragraph(run(), properties=style("L")),
    "list": paragraph(run(), properties=NUMBERED + '<w:spacing w:after="0"/>'),
    "list without a level": paragraph(run(), properties='<w:numPr><w:numId w:val="1"/></w:numPr>'),
    "no list": paragraph(run(), properties=style("L") + '<w:numPr><w:numId w:val="0"/></w:numPr>'),
    "empty": "<w:p/><w:p></w:p>" + paragraph(properties=style("L")),
    "end deleted": paragraph(run("jo"), properties='<w:rPr><w:del w:id="1"/></w:rPr>') + paragraph(run("ined")),
    "end in bold": paragraph(run(), properties="<w:rPr><w:b/><w:delicious/></w:rPr>"),
    "deleted": paragraph(f'<w:del w:id="1">{run()}</w:del>', run("stays")),
    "tabs and breaks": paragraph("<w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c\nd  e</w:t></w:r>"),
    "characters": paragraph(run("no\u00a0break\u2011hyphen so\u00adft  two, \u65e5\u672c \U0001f600")),
    "entities": paragraph(run("a &lt;b&gt; &amp; c > d &#233;")),
    "sign of a font": paragraph(run("\uf0fe", '<w:rPr><w:rFonts w:ascii="Wingdings"/></w:rPr>'), run("x")),
    "cells": table(
        row(P, "<w:tcPr><w:tcW w:w='1'/></w:tcPr><w:p/>"),
        row(f'<w:tcPr><w:tcW w:w="9"/><w:vAlign w:val="top"/></w:tcPr>{P}', paragraph(run("a|b")) + P),
    ),
    "wide cell": table(row(f'<w:tcPr><w:gridSpan w:val="2"/></w:tcPr>{P}', P)),
    "list in a cell": table(row(paragraph(run(), properties=style("L")), "<w:p/>")),
    "table in a cell": table(row(P + table(row(P)) + "<w:p/>")),
    "deleted row": table(f'<w:tr><w:trPr><w:del w:id="1"/></w:trPr><w:tc>{P}</w:tc></w:tr>', row(P)),
    "deleted cell": table(row(f'<w:tcPr><w:cellDel w:id="1"/></w:tcPr>{P}', P)),
    "cell without a table": f"<w:tc>{P}</w:tc>",
    "field over paragraphs": paragraph(mark("begin"), "<w:r><w:instrText>TOC</w:instrText></w:r>", mark("separate"))
    + P
    + paragraph(mark("end")),
    "field without an end": paragraph(mark("begin")) + P,
    "placeholder": "<w:sdt><w:sdtPr><w:showingPlcHdr/></w:sdtPr><w:sdtContent>"
    + paragraph(run("Click", '<w:rPr><w:rStyle w:val="P"/></w:rPr>'), run())
    + "</w:sdtContent></w:sdt>",
    "box": paragraph(
        run(),
        '<w:r><w:pict><v:shape xmlns:v="urn:schemas-microsoft-com:vml"><v:textbox>loose'
        f"<w:txbxContent>{P}{P}</w:txbxContent></v:textbox></v:shape></w:pict></w:r>",
        run(),
    ),
    "loose text": run("loose") + P,
    "frame": paragraph(run("O"), properties='<w:framePr w:dropCap="drop"/>') + P,
    "indented XML": "<w:p>\n  <w:r>\n    <w:t>one</w:t>\n  </w:r>\n</w:p>",
    "changed properties": paragraph(
        run(), properties=f'<w:pPrChange w:id="1"><w:pPr>{style("H")}</w:pPr></w:pPrChange>'
    ),
}


def parts_of(main: str | bytes) -> list[Part | str]:
    """What is read, and how it ends if it is damaged."""
    found: list[Part | str] = []
    with zipfile.ZipFile(io.BytesIO(formats.zipped(PARTS | {"word/document.xml": main}))) as archive:
        try:
            found.extend(docx.read(archive))
        except Unparseable as error:
            found.append(str(error).partition(":")[0])
    return found


def document(body: str, *, comment: str = "") -> str:
    """``comment``: with one, all of the part is parsed."""
    opened = f'<?xml version="1.0" encoding="UTF-8"?><w:document xmlns:w="{WORD}">{comment}'
    return f"{opened}<w:body>{body}</w:body></w:document>"


@pytest.mark.parametrize("name", PIECES)
def test_a_piece_reads_the_same_as_parsed(name: str) -> None:
    body = f"{P}{PIECES[name]}{P}"
    found = parts_of(document(body))
    assert found == parts_of(document(body, comment="<!-- -->"))
    assert "one two" in repr(found)


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_pieces_reads_the_same_as_parsed(seed: int) -> None:
    chance = random.Random(seed)
    wanted = [name for name in PIECES if name not in ("sign of a font", "placeholder")]
    body = "".join(PIECES[chance.choice(wanted)] for _ in range(1_500))
    assert len(body) > 2 * xml.PIECE_BYTES  # several pieces of the file
    assert parts_of(document(body)) == parts_of(document(body, comment="<!-- -->"))


@pytest.mark.parametrize("long", [run("word " * 40_000), f'<w:r w:rsidR="{"0" * 200_000}"><w:t>word</w:t></w:r>'])
def test_a_text_or_a_tag_may_be_longer_than_a_piece(long: str) -> None:
    body = f"{P * 500}{paragraph(long)}{P * 500}"
    found = parts_of(document(body))
    assert found == parts_of(document(body, comment="<!-- -->"))
    assert repr(found).count("one two") == 1_000


@pytest.mark.parametrize(
    "damage",
    [
        b"<w:p><w:r><w:t>a</w:r></w:t></w:p>",
        b"<w:p><w:r><w:t>\xff</w:t></w:r></w:p>",
        b"<w:p><w:r><w:t>\xef\xbf\xbe</w:t></w:r></w:p>",
        b"<w:p><w:r><w:t>\x01</w:t></w:r></w:p>",
        b"<w:p><w:r><w:t>]]></w:t></w:r></w:p>",
        b"<w:p><w:r><w:t>&nbsp;</w:t></w:r></w:p>",
        b'<w:p><w:pPr><w:pStyle w:val="\xff"/></w:pPr></w:p>',
        b"<w:p><w:r><w:rPr><w:b></w:rPr><w:t>a</w:t></w:r></w:p>",
    ],
)
def test_damage_is_told_as_by_the_parser(damage: bytes) -> None:
    head, _, tail = document(f"{P}@{P}").encode().partition(b"@")
    found = parts_of(head + damage + tail)
    assert found == parts_of(head.replace(b"<w:body>", b"<!-- --><w:body>") + damage + tail)
    assert found[-1] == "it is damaged"


def test_a_document_in_another_encoding_is_parsed() -> None:
    main = document("<w:p><w:r><w:t>caf\u00e9</w:t></w:r></w:p>").replace("UTF-8", "ISO-8859-1").encode("latin-1")
    assert "caf\u00e9" in repr(parts_of(main))


def test_plain_paragraphs_are_found() -> None:
    """Else nothing here would compare anything."""
    for name in ("runs", "style", "list", "characters", "empty", "end in bold"):
        head, found = docx_plain.split(PIECES[name].replace("<w:p/>", "<w:p></w:p>").encode())
        assert not head, name
        assert all(not rest for *_, rest in found), name
    _, found = docx_plain.split(PIECES["cells"].encode())
    assert [closes is not None for *_, closes, _ in found] == [True, True, False, True]
