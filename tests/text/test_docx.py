"""Word: what a document says is read, once and in its place, and what is not read is said."""

import io
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

import formats
from airweave_server.text.documents import read
from airweave_server.text.parts import Extracted, Unparseable

MAIN = "http://schemas.openxmlformats.org/"
STRICT = "http://purl.oclc.org/ooxml/"
SPACES = {
    "w": f"{MAIN}wordprocessingml/2006/main",
    "r": f"{MAIN}officeDocument/2006/relationships",
    "m": f"{MAIN}officeDocument/2006/math",
    "mc": f"{MAIN}markup-compatibility/2006",
    "wp": f"{MAIN}drawingml/2006/wordprocessingDrawing",
    "a": f"{MAIN}drawingml/2006/main",
    "c": f"{MAIN}drawingml/2006/chart",
    "dgm": f"{MAIN}drawingml/2006/diagram",
    "pic": f"{MAIN}drawingml/2006/picture",
    "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
    "v": "urn:schemas-microsoft-com:vml",
    "o": "urn:schemas-microsoft-com:office:office",
}
DECLARED = " ".join(f'xmlns:{prefix}="{space}"' for prefix, space in SPACES.items())


@dataclass
class Document:
    """``body``: the XML of the paragraphs. ``parts``: more parts, by name; ``relations``: (id, type, target) of the
    parts they belong to."""

    body: str
    parts: dict[str, str | bytes] = field(default_factory=dict)
    relations: list[tuple[str, str, str]] = field(default_factory=list)
    others: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    main: str = "word/document.xml"

    def data(self) -> bytes:
        folder, _, name = self.main.rpartition("/")
        parts: dict[str, str | bytes] = {
            "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            f'<Override PartName="/{self.main}" ContentType="application/'
            'vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>',
            "_rels/.rels": relations([("r1", "officeDocument", self.main)]),
            self.main: part("document", f"<w:body>{self.body}</w:body>"),
            f"{folder}/_rels/{name}.rels": relations(self.relations),
        }
        for owner, own in self.others.items():
            parts[f"word/_rels/{owner}.rels"] = relations(own)
        return formats.zipped(parts | self.parts)

    def read(self) -> Extracted:
        found = read(io.BytesIO(self.data()), filename="a.docx")
        assert isinstance(found, Extracted), found
        return found

    def text(self) -> str:
        """The text, of which nothing is left out."""
        found = self.read()
        assert not found.left_out
        return found.text.strip("\n")


def relations(own: list[tuple[str, str, str]]) -> str:
    lines = "".join(
        f'<Relationship Id="{id}" Type="{MAIN}officeDocument/2006/relationships/{kind}" Target="{target}"/>'
        for id, kind, target in own
    )
    return f'<Relationships xmlns="{MAIN}package/2006/relationships">{lines}</Relationships>'


def part(root: str, content: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><w:{root} {DECLARED}>{content}</w:{root}>'


def p(*runs: str, style: str = "", properties: str = "") -> str:
    style = f'<w:pStyle w:val="{style}"/>' if style else ""
    return f"<w:p><w:pPr>{style}{properties}</w:pPr>{''.join(runs)}</w:p>"


def r(text: str) -> str:
    return f'<w:r><w:rPr><w:b/></w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def field_of(instruction: str, result: str = "", data: str = "") -> str:
    shown = f'<w:r><w:fldChar w:fldCharType="separate"/></w:r>{result}' if result else ""
    return (
        f'<w:r><w:fldChar w:fldCharType="begin">{data}</w:fldChar></w:r><w:r><w:instrText>{instruction}</w:instrText>'
        f'</w:r>{shown}<w:r><w:fldChar w:fldCharType="end"/></w:r>'
    )


def table(*rows: str) -> str:
    return f"<w:tbl><w:tblPr/>{''.join(rows)}</w:tbl>"


def tr(*cells: str, properties: str = "") -> str:
    return f"<w:tr><w:trPr>{properties}</w:trPr>{''.join(f'<w:tc><w:tcPr/>{cell}</w:tc>' for cell in cells)}</w:tr>"


def box(content: str) -> str:
    return f"<wps:wsp><wps:spPr/><wps:txbx><w:txbxContent>{content}</w:txbxContent></wps:txbx></wps:wsp>"


def drawing(content: str, descr: str = "") -> str:
    about = f'<wp:docPr id="1" name="x" descr="{descr}"/>'
    graphic = f"<a:graphic><a:graphicData>{content}</a:graphicData></a:graphic>"
    return f"<w:drawing><wp:inline>{about}{graphic}</wp:inline></w:drawing>"


def vml_box(content: str) -> str:
    return f"<w:pict><v:shape><v:textbox><w:txbxContent>{content}</w:txbxContent></v:textbox></v:shape></w:pict>"


def test_text_in_whatever_is_around_it_is_read() -> None:
    body = p(
        r("one "),
        f'<w:hyperlink r:id="r9"><w:smartTag><w:customXml>{r("two ")}</w:customXml></w:smartTag></w:hyperlink>',
        f"<w:sdt><w:sdtPr><w:tag/></w:sdtPr><w:sdtContent>{r('three ')}</w:sdtContent></w:sdt>",
        f'<w:fldSimple w:instr="DATE">{r("four ")}</w:fldSimple>',
        f'<w:bdo w:val="rtl"><w:dir w:val="rtl">{r("five")}</w:dir></w:bdo>',
    )
    sdt = f"<w:sdt><w:sdtContent><w:sdt><w:sdtContent>{p(r('block'))}</w:sdtContent></w:sdt></w:sdtContent></w:sdt>"
    assert Document(body + sdt).text() == "one two three four five\n\nblock"


def test_characters_stay_as_they_are() -> None:
    said = "Map&lt;String,Widget&gt; a_b *c* \\d # x &amp;amp; &lt;b&gt; `e` [f](g)"
    assert Document(p(r(said))).text() == "Map<String,Widget> a_b *c* \\d # x &amp; <b> `e` [f](g)"


def test_tabs_breaks_and_hyphens() -> None:
    body = p(
        "<w:r><w:t>Total</w:t><w:tab/><w:t>42</w:t><w:ptab/><w:t>x</w:t><w:br/><w:t>y</w:t><w:cr/><w:t>z</w:t></w:r>"
    )
    body += p(
        "<w:r><w:t>RX</w:t><w:noBreakHyphen/><w:t>47 RY\u201112 so\u00adft co</w:t><w:softHyphen/><w:t>op</w:t></w:r>"
    )
    body += p(r("a\u00a0b   c\u202fd"), '<w:r><w:t>e</w:t><w:br w:type="page"/></w:r>')
    assert Document(body).text() == "Total 42 x\ny\nz\n\nRX-47 RY-12 soft coop\n\na b c de"


def test_tab_stops_are_no_tabs() -> None:
    stops = '<w:tabs><w:tab w:val="left" w:pos="1"/></w:tabs>'
    assert Document(p(r("a"), r("b"), properties=stops)).text() == "ab"


def test_symbols_of_symbol_fonts() -> None:
    symbol = '<w:r><w:sym w:font="{}" w:char="{}"/></w:r>'
    body = p(
        symbol.format("Symbol", "F061"),
        symbol.format("Wingdings", "F0FE"),
        symbol.format("Calibri", "2192"),
        '<w:r><w:rPr><w:rFonts w:ascii="Symbol" w:hAnsi="Symbol"/></w:rPr><w:t>\uf062</w:t></w:r>',
    )
    assert Document(body).text() == "α☑→β"


def test_ruby_follows_its_base() -> None:
    ruby = f"<w:ruby><w:rubyPr/><w:rt>{r('とうきょう')}</w:rt><w:rubyBase>{r('東京')}</w:rubyBase></w:ruby>"
    assert Document(p(f"<w:r>{ruby}</w:r>", r("駅"))).text() == "東京(とうきょう)駅"


def test_fields_show_their_result() -> None:
    nested = field_of(f"HYPERLINK {field_of('PAGEREF x', r('hidden'))}", r("the ") + field_of("PAGE", r("7")))
    assert Document(p(r("see "), nested, r(" there"))).text() == "see the 7 there"
    assert Document(p(field_of("EQ \\f(1,2)"), r(" "), field_of("XE &quot;index&quot;"), r("end"))).text() == "1 2 end"


def test_a_field_over_several_paragraphs_and_one_without_end() -> None:
    begin, separate, end = (f'<w:r><w:fldChar w:fldCharType="{one}"/></w:r>' for one in ("begin", "separate", "end"))
    over = p(begin, "<w:r><w:instrText>TOC</w:instrText></w:r>", separate, r("One")) + p(r("Two"), end) + p(r("After"))
    assert Document(over).text() == "One\n\nTwo\n\nAfter"
    assert Document(p(r("a "), begin, r("b ")) + p(r("c"))).text() == "a b\n\nc"
    assert Document(p(end, separate, r("a"))).text() == "a"


def test_values_of_form_fields() -> None:
    checked = '<w:ffData><w:checkBox><w:default w:val="0"/><w:checked/></w:checkBox></w:ffData>'
    empty = '<w:ffData><w:checkBox><w:default w:val="0"/></w:checkBox></w:ffData>'
    entries = '<w:listEntry w:val="red"/><w:listEntry w:val="blue"/>'
    choices = f'<w:ffData><w:ddList><w:result w:val="1"/>{entries}</w:ddList></w:ffData>'
    body = p(
        field_of("FORMCHECKBOX", data=checked),
        field_of("FORMCHECKBOX", data=empty),
        field_of("FORMDROPDOWN", data=choices),
        r(" "),
        field_of("FORMTEXT", r("typed"), data="<w:ffData><w:textInput><w:default w:val='d'/></w:textInput></w:ffData>"),
    )
    assert Document(body).text() == "☒☐blue typed"


def test_content_controls_say_their_value_and_not_their_placeholder() -> None:
    styles = part("styles", style("Hint", "Placeholder Text", kind="character"))
    control = "<w:sdt><w:sdtPr>{}</w:sdtPr><w:sdtContent>{}</w:sdtContent></w:sdt>"
    hint = '<w:r><w:rPr><w:rStyle w:val="Hint"/></w:rPr><w:t>Click here</w:t></w:r>'
    body = p(
        control.format("<w:showingPlcHdr/><w:text/>", hint),
        control.format("<w:showingPlcHdr/><w:text/>", r("typed by a program ")),
        control.format("<w:dropDownList/>", r("chosen ")),
        control.format("<w14:checkbox xmlns:w14='x'/>", r("☒")),
        r(" end"),
    )
    own = [("r1", "styles", "styles.xml")]
    assert Document(body, {"word/styles.xml": styles}, own).text() == "typed by a program chosen ☒ end"
    block = control.format("<w:showingPlcHdr/>", p(hint) + p(r("a"), hint, r("b"))) + p(r("c"))
    assert Document(block, {"word/styles.xml": styles}, own).text() == "ab\n\nc"


def style(id: str, name: str, more: str = "", kind: str = "paragraph") -> str:
    return f'<w:style w:type="{kind}" w:styleId="{id}"><w:name w:val="{name}"/>{more}</w:style>'


STYLES = part(
    "styles",
    '<w:docDefaults><w:pPrDefault><w:pPr><w:outlineLvl w:val="3"/></w:pPr></w:pPrDefault></w:docDefaults>'
    + style("Normal", "Normal")
    + style("berschrift1", "heading 1", '<w:pPr><w:outlineLvl w:val="0"/></w:pPr>')
    + style("Kapitel", "Kapitel", '<w:basedOn w:val="berschrift2"/>')
    + style("berschrift2", "heading 2")
    + style("Loop", "Loop", '<w:basedOn w:val="Loop"/>')
    + style("Titel", "Title")
    + style("NoHeading", "x", '<w:basedOn w:val="berschrift1"/><w:pPr><w:outlineLvl w:val="9"/></w:pPr>')
    + style("Nr", "Nr", '<w:pPr><w:numPr><w:ilvl w:val="1"/><w:numId w:val="5"/></w:numPr></w:pPr>')
    + style("Nr2", "Nr2", '<w:basedOn w:val="Nr"/>'),
)


def test_headings_are_known_by_their_level_whatever_the_language() -> None:
    body = p(r("T"), style="Titel") + p(r("A"), style="berschrift1") + p(r("B"), style="Kapitel")
    body += p(r("C"), properties='<w:outlineLvl w:val="2"/>') + p(r("D"), style="NoHeading") + p(r("E"), style="Loop")
    body += p(r("word " * 100), style="berschrift1")
    text = Document(body, {"word/styles.xml": STYLES}, [("r1", "styles", "styles.xml")]).text()
    assert text.startswith("# T\n\n# A\n\n## B\n\n### C\n\nD\n\nE\n\nword word")


def level(at: int, form: str, text: str, more: str = "", start: int = 1) -> str:
    return (
        f'<w:lvl w:ilvl="{at}"><w:start w:val="{start}"/><w:numFmt w:val="{form}"/>{more}<w:lvlText w:val="{text}"/>'
        f'<w:pPr><w:ind w:left="720"/></w:pPr></w:lvl>'
    )


def item(text: str, list_id: int, at: int = 0, **more: str) -> str:
    numbering = f'<w:numPr><w:ilvl w:val="{at}"/><w:numId w:val="{list_id}"/></w:numPr>'
    return p(r(text), properties=numbering, **more)


def numbered(body: str, *kinds: str, lists: str) -> str:
    numbering = "".join(f'<w:abstractNum w:abstractNumId="{i}">{kind}</w:abstractNum>' for i, kind in enumerate(kinds))
    parts: dict[str, str | bytes] = {
        "word/numbering.xml": part("numbering", numbering + lists),
        "word/styles.xml": STYLES,
    }
    own = [("r1", "numbering", "numbering.xml"), ("r2", "styles", "styles.xml")]
    return Document(body, parts, own).text()


def num(id: int, kind: int, more: str = "") -> str:
    return f'<w:num w:numId="{id}"><w:abstractNumId w:val="{kind}"/>{more}</w:num>'


def test_list_numbers_are_those_that_are_shown() -> None:
    kind = level(0, "upperRoman", "Article %1.") + level(1, "decimal", "%1.%2") + level(2, "lowerLetter", "(%3)")
    body = item("a", 1) + item("b", 1, 1) + item("c", 1, 1) + item("d", 1, 2) + item("e", 1) + item("f", 1, 1)
    assert numbered(body, kind, lists=num(1, 0)).splitlines() == [
        "Article I. a",
        "  I.1 b",
        "  I.2 c",
        "    (a) d",
        "Article II. e",
        "  II.1 f",
    ]
    legal = kind.replace('<w:lvlText w:val="%1.%2"/>', '<w:isLgl/><w:lvlText w:val="%1.%2"/>')
    assert numbered(body, legal, lists=num(1, 0)).splitlines()[1] == "  1.1 b"


def test_lists_go_on_and_restart_as_word_does() -> None:
    kind = level(0, "decimal", "%1.") + level(1, "lowerLetter", "%2)", '<w:lvlRestart w:val="0"/>')
    again = num(2, 0, '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride>')
    body = item("a", 1) + item("b", 1, 1) + p(r("between")) + item("c", 1) + item("d", 1, 1)
    body += item("e", 2) + item("f", 2) + item("g", 3)
    assert numbered(body, kind, lists=num(1, 0) + again + num(3, 0)) == (
        "1. a\n  a) b\n\nbetween\n\n2. c\n  b) d\n5. e\n6. f\n7. g"
    )
    body = item("first below", 1, 1) + item("x", 0) + item("y", 77) + item("", 1) + item("z", 1)
    assert numbered(body, kind, lists=num(1, 0)) == "  a) first below\n\nx\n\ny\n\n3. z"


def test_lists_of_styles_and_overridden_levels() -> None:
    kind = level(0, "decimal", "%1") + level(1, "decimal", "%1.%2", '<w:pStyle w:val="Nr"/>')
    body = (
        p(r("a"), style="Nr")
        + p(r("b"), style="Nr2")
        + p(r("c"), style="Nr", properties='<w:numPr><w:numId w:val="0"/></w:numPr>')
    )
    assert numbered(body, kind, lists=num(5, 0)) == "  1.1 a\n  1.2 b\n\nc"
    own = num(1, 0, f'<w:lvlOverride w:ilvl="0">{level(0, "decimalZero", "No. %1", start=9)}</w:lvlOverride>')
    assert numbered(item("a", 1) + item("b", 1), kind, lists=own) == "No. 09 a\nNo. 10 b"
    linked = '<w:numStyleLink w:val="Own"/>', '<w:styleLink w:val="Own"/>' + level(0, "ordinal", "%1")
    assert numbered(item("a", 1) + item("b", 2), *linked, lists=num(1, 0) + num(2, 1)) == "1st a\n2nd b"


def test_numbers_of_headings_and_bullets() -> None:
    kind = level(0, "decimal", "%1.") + level(1, "bullet", "\uf0b7")
    body = item("Scope", 1, style="berschrift1") + item("point", 1, 1) + item("Terms", 1, style="berschrift1")
    assert numbered(body, kind, lists=num(1, 0)) == "# 1. Scope\n\n  - point\n\n# 2. Terms"


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("lowerRoman", "xxviii"),
        ("upperLetter", "BB"),
        ("ordinal", "28th"),
        ("ordinalText", "Twenty-eighth"),
        ("cardinalText", "Twenty-eight"),
        ("decimalFullWidth", "２８"),
        ("chineseCounting", "二十八"),
        ("hebrew1", "כח"),
        ("russianLower", "ю"),
        ("unheardOf", "28"),
        ("none", ""),
    ],
)
def test_formats_of_numbers(form: str, shown: str) -> None:
    assert numbered(item("x", 1), level(0, form, "[%1]", start=28), lists=num(1, 0)) == f"[{shown}] x"


def test_boxes_stand_beside_the_text_of_their_paragraph_once() -> None:
    choice = f"<mc:AlternateContent><mc:Choice Requires='wps'>{drawing(box(p(r('BOX'))))}</mc:Choice>"
    both = f"{choice}<mc:Fallback>{vml_box(p(r('BOX')))}</mc:Fallback></mc:AlternateContent>"
    assert (
        Document(p(r("left "), f"<w:r>{both}</w:r>", r("right")) + p(r("next"))).text() == "left right\n\nBOX\n\nnext"
    )
    assert Document(p(r("left "), f"<w:r>{vml_box(p(r('A')) + p(r('B')))}</w:r>")).text() == "left\n\nA\n\nB"
    unknown = "<mc:Choice Requires='new'><x/></mc:Choice>"
    only = f"<mc:AlternateContent>{unknown}<mc:Fallback>{r('old')}</mc:Fallback></mc:AlternateContent>"
    assert Document(p(only, r(" text"))).text() == "old text"


def test_boxes_in_groups_in_boxes_and_in_cells() -> None:
    group = f'<wpg:wgp xmlns:wpg="g">{box(p(r("one")))}<wpg:grpSp>{box(p(r("two")))}</wpg:grpSp></wpg:wgp>'
    assert Document(p(r("text"), f"<w:r>{drawing(group)}</w:r>")).text() == "text\n\none\n\ntwo"
    inner = box(p(r("outer"), f"<w:r>{drawing(box(table(tr(p(r('a')), p(r('b'))))))}</w:r>"))
    assert Document(p(f"<w:r>{drawing(inner)}</w:r>", r("text"))).text() == "text\n\nouter\n\n| a | b |\n| --- | --- |"
    cell = p(r("cell"), f"<w:r>{drawing(box(p(r('box'))))}</w:r>")
    assert Document(table(tr(cell, p(r("b"))))).text().startswith("| cell box | b |")


def test_word_art_and_text_in_shapes_without_word() -> None:
    art = '<w:r><w:pict><v:shape><v:textpath string="DRAFT &amp; more"/></v:shape></w:pict></w:r>'
    assert Document(p(r("a"), art)).text() == "a\n\nDRAFT & more"
    runs = "<a:r><a:t>can</a:t></a:r><a:r><a:t>vas</a:t></a:r>"
    shape = f"<lc:lockedCanvas xmlns:lc='l'><a:sp><a:txBody><a:p>{runs}</a:p></a:txBody></a:sp></lc:lockedCanvas>"
    assert Document(p(r("a"), f"<w:r>{drawing(shape)}</w:r>")).text() == "a\n\ncanvas"
    html = "<w:r><w:pict><v:rect><v:textbox><div>old <b>way</b></div></v:textbox></v:rect></w:pict></w:r>"
    assert Document(p(r("a"), html)).text() == "a\n\nold way"


def test_blocks_in_cells() -> None:
    kind = level(0, "decimal", "%1.")
    listed = item("apple", 1) + item("pear", 1)
    inner = table(tr(p(r("x")), p(r("y|z"))))
    rows = tr(listed, p(r("H"), style="berschrift1") + p(r("b"))) + tr(inner, p(r("last")))
    assert numbered(table(rows), kind, lists=num(1, 0)) == (
        "| 1. apple 2. pear | H b |\n| --- | --- |\n| x; y\\|z | last |"
    )
    sdt = f"<w:sdt><w:sdtContent><w:tc>{p(r('in'))}</w:tc></w:sdtContent></w:sdt>"
    controls = f"<w:sdt><w:sdtContent><w:tr><w:tc>{p(r('a'))}</w:tc>{sdt}</w:tr></w:sdtContent></w:sdt>"
    assert Document(table(controls)).text().startswith("| a | in |")


def test_merged_cells_are_read_once() -> None:
    wide = f'<w:tr><w:tc><w:tcPr><w:gridSpan w:val="2"/></w:tcPr>{p(r("wide"))}</w:tc><w:tc>{p(r("c"))}</w:tc></w:tr>'
    low = f"<w:tr><w:tc><w:tcPr><w:vMerge/></w:tcPr>{p()}</w:tc><w:tc>{p(r('e'))}</w:tc><w:tc>{p(r('f'))}</w:tc></w:tr>"
    assert Document(table(wide, low)).text() == "| wide |  | c |\n| --- | --- | --- |\n|  | e | f |"


def test_a_cell_that_is_the_page_is_read_as_text() -> None:
    frame = table(tr(p(r("Title"), style="berschrift1") + p(r("text")) + table(tr(p(r("a")), p(r("b"))))))
    found = Document(frame, {"word/styles.xml": STYLES}, [("r1", "styles", "styles.xml")]).text()
    assert found == "# Title\n\ntext\n\n| a | b |\n| --- | --- |"


def test_tables_that_follow_each_other_are_two() -> None:
    assert "|\n\n|" in Document(table(tr(p(r("a")))) + table(tr(p(r("b"))))).text()


NOTES = {
    "word/footnotes.xml": part(
        "footnotes",
        '<w:footnote w:type="separator" w:id="0"><w:p><w:r><w:separator/></w:r></w:p></w:footnote>'
        f'<w:footnote w:id="2">{p("<w:r><w:footnoteRef/></w:r>", r(" foot"))}{p(r("more"))}</w:footnote>'
        f'<w:footnote w:id="3">{p(r("third"))}</w:footnote>',
    ),
    "word/endnotes.xml": part("endnotes", f'<w:endnote w:id="2">{p(r("end"))}</w:endnote>'),
}
NOTED = [("r1", "footnotes", "footnotes.xml"), ("r2", "endnotes", "endnotes.xml")]
FOOT, END = '<w:r><w:footnoteReference w:id="2"/></w:r>', '<w:r><w:endnoteReference w:id="2"/></w:r>'


def test_notes_of_equal_id_are_told_apart() -> None:
    body = p(r("a"), FOOT, r(" b"), END, r(" c"), FOOT) + p(r("next"))
    found = Document(body, dict(NOTES), NOTED).text()
    assert found == "a[^1] b[^i] c[^1]\n\n[^1]: foot\n\nmore\n\n[^i]: end\n\nnext"


def test_notes_in_cells_stand_after_their_table() -> None:
    body = table(tr(p(r("a"), FOOT), p(r("b")))) + p(r("next"))
    assert Document(body, dict(NOTES), NOTED).text() == "| a[^1] | b |\n| --- | --- |\n\n[^1]: foot\n\nmore\n\nnext"


COMMENTS = part(
    "comments",
    '<w:comment w:id="0" w:author="Ann Lee">'
    f"{p('<w:r><w:annotationRef/></w:r>', r('why?'))}{p(r('really'))}</w:comment>"
    f'<w:comment w:id="1" w:author="Bob">{p(r("because"))}</w:comment>'
    f'<w:comment w:id="7" w:author="Eve">{p(r("lost"))}</w:comment>',
)


def test_comments_are_read_with_their_authors() -> None:
    marks = '<w:commentRangeStart w:id="0"/>{}<w:commentRangeEnd w:id="0"/>' + "".join(
        f'<w:r><w:commentReference w:id="{id}"/></w:r>' for id in (0, 1)
    )
    body = p(r("a "), marks.format(r("doubtful")), r(" b")) + p(r("next"))
    found = Document(body, {"word/comments.xml": COMMENTS}, [("r1", "comments", "comments.xml")]).text()
    assert found == (
        "a doubtful b\n\n[Comment by Ann Lee: why?\n\nreally]\n\n[Comment by Bob: because]\n\nnext\n\n"
        "[Comment by Eve: lost]"
    )


def test_headers_and_footers_are_read_once() -> None:
    sections = (
        '<w:sectPr><w:headerReference w:type="first" r:id="h1"/><w:headerReference w:type="default" r:id="h2"/>'
        '<w:footerReference r:id="f1"/></w:sectPr>'
    )
    parts: dict[str, str | bytes] = {
        "word/header1.xml": part("hdr", p(r("Letter head"))),
        "word/header2.xml": part("hdr", p(r("Running title")) + table(tr(p(r("a")), p(r("b"))))),
        "word/header3.xml": part("hdr", p(r("Letter head"))),
        "word/footer1.xml": part("ftr", p(r("Page "), field_of("PAGE", r("2")))),
    }
    own = [
        ("h1", "header", "header1.xml"),
        ("h2", "header", "header2.xml"),
        ("h3", "header", "header3.xml"),
        ("f1", "footer", "footer1.xml"),
    ]
    again = '<w:sectPr><w:headerReference w:type="even" r:id="h3"/><w:headerReference r:id="h2"/></w:sectPr>'
    found = Document(p(r("body"), properties=again) + p(r("end")) + sections, parts, own).read()
    assert [section.label for section in found.sections] == ["", "Header", "Footer"]
    assert found.text == "body\n\nend\n\nLetter head\n\nRunning title\n\n| a | b |\n| --- | --- |\n\nPage 2\n\n"


def formula(content: str) -> str:
    return f"<m:oMath>{content}</m:oMath>"


def mr(text: str) -> str:
    return f"<m:r><w:rPr><w:i/></w:rPr><m:t>{text}</m:t></m:r>"


@pytest.mark.parametrize(
    ("omml", "shown"),
    [
        (f"<m:f><m:num>{mr('a+b')}</m:num><m:den>{mr('2')}</m:den></m:f>", "(a+b)/2"),
        (f"<m:rad><m:radPr><m:degHide/></m:radPr><m:deg/><m:e>{mr('x')}</m:e></m:rad>", "√(x)"),
        (f"<m:rad><m:deg>{mr('3')}</m:deg><m:e>{mr('x')}</m:e></m:rad>", "∛(x)"),
        (f"<m:sSubSup><m:e>{mr('x')}</m:e><m:sub>{mr('i')}</m:sub><m:sup>{mr('n+1')}</m:sup></m:sSubSup>", "x_i^(n+1)"),
        (f"<m:sPre><m:sub>{mr('6')}</m:sub><m:sup>{mr('14')}</m:sup><m:e>{mr('C')}</m:e></m:sPre>", "_6^14 C"),
        (
            f'<m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr><m:sub>{mr("i=1")}</m:sub><m:sup>{mr("n")}</m:sup>'
            f"<m:e>{mr('i')}</m:e></m:nary>",
            "∑_(i=1)^n i",
        ),
        (
            f'<m:d><m:dPr><m:begChr m:val="["/><m:endChr m:val=""/></m:dPr><m:e>{mr("a")}</m:e>'
            f"<m:e>{mr('b')}</m:e></m:d>",
            "[a|b",
        ),
        (
            f"<m:m><m:mr><m:e>{mr('1')}</m:e><m:e>{mr('0')}</m:e></m:mr>"
            f"<m:mr><m:e>{mr('0')}</m:e><m:e>{mr('1')}</m:e></m:mr></m:m>",
            "[1, 0; 0, 1]",
        ),
        (f'<m:acc><m:accPr><m:chr m:val="\u0303"/></m:accPr><m:e>{mr("x")}</m:e></m:acc>', "x\u0303"),
        (
            f"<m:func><m:fName><m:limLow><m:e>{mr('lim')}</m:e><m:lim>{mr('x→0')}</m:lim></m:limLow></m:fName>"
            f"<m:e>{mr('f')}</m:e></m:func>",
            "lim_(x→0) f",
        ),
        (f"{mr('a')}<w:del>{mr('gone')}</w:del><w:ins>{mr('+b')}</w:ins>", "a+b"),
    ],
)
def test_formulas_are_read_in_their_place(omml: str, shown: str) -> None:
    assert Document(p(r("Dose is "), formula(omml), r(" mg"))).text() == f"Dose is {shown} mg"


def test_display_formulas_and_what_follows_a_fraction() -> None:
    half = f"<m:f><m:num>{mr('1')}</m:num><m:den>{mr('2')}</m:den></m:f>"
    both = f"<m:oMathPara>{formula(half + mr('m'))}{formula(mr('E=mc'))}</m:oMathPara>"
    assert Document(p(r("before"), both, r("after"))).text() == "before\n1/2 m\nE=mc\nafter"


def test_tracked_changes_are_read_as_accepted() -> None:
    gone = '<w:del w:id="1">{}</w:del>'
    body = p(
        r("keep "),
        f"<w:ins>{r('new ')}{gone.format('<w:r><w:delText>undone</w:delText></w:r>')}</w:ins>",
        gone.format("<w:r><w:delText>old</w:delText><w:tab/><w:noBreakHyphen/></w:r>" + FOOT),
        f"<w:moveFrom>{r('moved')}</w:moveFrom>",
        r("end"),
    )
    body += p(f"<w:moveTo>{r('moved')}</w:moveTo>")
    assert Document(body, dict(NOTES), NOTED).text() == "keep new end\n\nmoved"


def test_a_deleted_end_of_a_paragraph_joins_it_to_the_next() -> None:
    gone = "<w:rPr><w:del w:id='1'/></w:rPr>"
    body = p(r("one "), properties=gone) + p(r("sentence"), properties='<w:outlineLvl w:val="0"/>')
    assert Document(body + p(r("last"), properties=gone)).text() == "# one sentence\n\nlast"
    drop = '<w:framePr w:dropCap="drop"/>'
    assert Document(p(r("O"), properties=drop) + p(r("nce upon"))).text() == "Once upon"


def test_deleted_rows_and_cells_are_gone() -> None:
    cell = f"<w:tc><w:tcPr><w:cellDel w:id='1'/></w:tcPr>{p(r('cell'))}</w:tc>"
    rows = (
        tr(p(r("a")), p(r("b"))),
        tr(p(r("row")), properties="<w:del w:id='1'/>"),
        f"<w:tr><w:tc>{p(r('c'))}</w:tc>{cell}</w:tr>",
    )
    assert Document(table(*rows)).text() == "| a | b |\n| --- | --- |\n| c |"


def test_old_properties_are_not_read() -> None:
    was = '<w:pPrChange><w:pPr><w:outlineLvl w:val="0"/><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:pPrChange>'
    assert Document(p(r("text"), properties=was)).text() == "text"


def test_hidden_text_is_read() -> None:
    assert Document(p("<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>")).text() == "hidden"


CHART = (
    f"<c:chartSpace {DECLARED}><c:chart><c:title><c:tx><c:rich><a:p><a:r><a:t>Sales</a:t></a:r></a:p></c:rich></c:tx>"
    "</c:title><c:plotArea><c:ser><c:tx><c:strRef><c:f>A1</c:f><c:strCache><c:pt idx='0'><c:v>North</c:v></c:pt>"
    "</c:strCache></c:strRef></c:tx><c:cat><c:strRef><c:strCache><c:pt idx='0'><c:v>May</c:v></c:pt></c:strCache>"
    "</c:strRef></c:cat><c:val><c:numRef><c:numCache><c:pt idx='0'><c:v>4.2999999999999998</c:v></c:pt></c:numCache>"
    "</c:numRef></c:val></c:ser><c:valAx><c:title><c:tx><c:rich><a:p><a:r><a:t>Tons</a:t></a:r></a:p></c:rich></c:tx>"
    "</c:title></c:valAx></c:plotArea></c:chart></c:chartSpace>"
)


def test_charts_and_diagrams_are_read() -> None:
    points = "".join(
        f'<dgm:pt modelId="{id}"><dgm:t><a:p><a:r><a:t>{text}</a:t></a:r></a:p></dgm:t></dgm:pt>'
        for id, text in (("b", "Second"), ("a", "First"), ("c", "Part"))
    )
    links = "".join(
        f'<dgm:cxn srcId="{above}" destId="{below}" srcOrd="{place}"/>'
        for above, below, place in (("d", "a", 0), ("d", "b", 1), ("a", "c", 0), ("c", "a", 0))
    )
    listed = f'<dgm:ptLst><dgm:pt modelId="d" type="doc"/>{points}</dgm:ptLst><dgm:cxnLst>{links}</dgm:cxnLst>'
    diagram = f"<dgm:dataModel {DECLARED}>{listed}</dgm:dataModel>"
    body = p(r("see "), "<w:r>" + drawing("<c:chart r:id='r1'/>") + "</w:r>", r("below"))
    body += p("<w:r>" + drawing("<dgm:relIds r:dm='r2'/>") + "</w:r>")
    parts: dict[str, str | bytes] = {"word/charts/chart1.xml": CHART, "word/diagrams/data1.xml": diagram}
    own = [("r1", "chart", "charts/chart1.xml"), ("r2", "diagramData", "diagrams/data1.xml")]
    assert Document(body, parts, own).text() == (
        "see below\n\nSales\n\nTons\n\n|  | North |\n| --- | --- |\n| May | 4.3 |\n\n- First\n  - Part\n- Second"
    )


def test_numbers_of_charts_have_their_format() -> None:
    points = "<c:pt idx='0'><c:v>{}</c:v></c:pt>"
    dates = f"<c:cat><c:numRef><c:numCache><c:formatCode>yyyy\\-mm\\-dd</c:formatCode>{points.format(43831)}"
    shares = f"<c:val><c:numRef><c:numCache><c:formatCode>0%</c:formatCode>{points.format('0.25')}"
    ends = "</c:numCache></c:numRef></c:{}>"
    series = f"<c:ser>{dates}{ends.format('cat')}{shares}{ends.format('val')}</c:ser>"
    chart = f"<c:chartSpace {DECLARED}><c:chart><c:plotArea>{series}</c:plotArea></c:chart></c:chartSpace>"
    body = p("<w:r>" + drawing("<c:chart r:id='r1'/>") + "</w:r>")
    assert Document(body, {"word/c.xml": chart}, [("r1", "chart", "c.xml")]).text() == "| 2020-01-01 | 25% (0.25) |"


def test_what_cannot_be_read_of_a_document_is_said() -> None:
    image = drawing("<pic:pic><pic:blipFill><a:blip r:embed='i1'/></pic:blipFill></pic:pic>", "A cat &amp; a dog")
    named = drawing("<pic:pic><pic:blipFill><a:blip r:embed='i2'/></pic:blipFill></pic:pic>", "C:\\scan.png")
    broken = drawing("<c:chart r:id='c1'/>") + drawing("<c:chart r:id='c9'/>")
    equation = (
        '<w:object><v:shape><v:imagedata r:id="i3"/></v:shape><o:OLEObject ProgID="Equation.3" r:id="o1"/></w:object>'
    )
    body = p(r("text"), *(f"<w:r>{one}</w:r>" for one in (image, image, named, broken, equation)))
    own = [
        ("i1", "image", "media/1.png"),
        ("i2", "image", "media/2.png"),
        ("i3", "image", "media/3.wmf"),
        ("c1", "chart", "chart1.xml"),
        ("o1", "oleObject", "o.bin"),
        ("f", "footnotes", "footnotes.xml"),
    ]
    found = Document(body, {"word/chart1.xml": "<c:chart", "word/footnotes.xml": "<w:x>"}, own).read()
    assert found.text.strip() == "text\n\n![A cat & a dog]"
    said = {(one.what, one.where, one.count) for one in found.left_out}
    assert said == {
        ("image", (), 2),
        ("damaged", ("footnotes.xml", "chart1.xml"), 2),
        ("object", (), 1),
        ("formula", (), 1),
    }


def test_controls_and_parts_of_master_documents() -> None:
    control = (
        '<w:r><w:object><v:shape><v:imagedata r:id="i"/></v:shape><w:control r:id="{}" w:name="Box1"/></w:object></w:r>'
    )
    bag = (
        '<ax:ocx xmlns:ax="http://schemas.microsoft.com/office/2006/activeX">'
        '<ax:ocxPr ax:name="Size" ax:value="7"/><ax:ocxPr ax:name="Caption" ax:value="I agree"/></ax:ocx>'
    )
    body = p(r("a"), control.format("c1"), control.format("c2")) + '<w:subDoc r:id="s1"/>'
    own = [("c1", "control", "ax1.xml"), ("c2", "control", "ax2.xml"), ("s1", "subDocument", "chapter.docx")]
    parts: dict[str, str | bytes] = {"word/ax1.xml": bag, "word/ax2.xml": bag.replace("Caption", "x")}
    found = Document(body, parts, [*own, ("i", "image", "x.emf")]).read()
    assert found.text == "a\n\nI agree\n\n"
    assert [(one.what, one.where) for one in found.left_out] == [
        ("object", ("Box1",)),
        ("member", ("word/chapter.docx",)),
    ]


def test_imported_and_embedded_documents_are_read() -> None:
    inner = Document(p(r("inner"))).data()
    body = p(r("before")) + "".join(f'<w:altChunk r:id="a{i}"/>' for i in (1, 2, 3)) + p(r("after"))
    body += p(
        '<w:r><w:object><v:shape><v:imagedata r:id="i1"/></v:shape><o:OLEObject ProgID="Word" r:id="o1"/></w:object>'
        "</w:r>"
    )
    parts: dict[str, str | bytes] = {
        "word/a.html": "<html><body><h1>Page</h1><p>web</p></body></html>",
        "word/b.rtf": r"{\rtf1 rich}",
        "word/c.docx": Document(p(r("imported"))).data(),
        "word/embeddings/d.docx": inner,
    }
    own = [
        ("a1", "aFChunk", "a.html"),
        ("a2", "aFChunk", "b.rtf"),
        ("a3", "aFChunk", "c.docx"),
        ("o1", "package", "embeddings/d.docx"),
        ("i1", "image", "x.emf"),
    ]
    found = Document(body, parts, own).read()
    assert found.text.split() == ["before", "#", "Page", "web", "rich", "imported", "after", "inner"]
    assert [section.label for section in found.sections] == ["", "", "", "", "", "d.docx"]
    assert not found.left_out


def test_objects_of_the_newer_kind_and_links() -> None:
    body = p(r("a"), '<w:r><w:object><w:objectEmbed w:progId="Word" r:id="o1"/></w:object></w:r>')
    body += p('<w:r><w:object><w:objectLink w:progId="Excel" r:id="o2"/></w:object></w:r>')
    own = [("o1", "package", "embeddings/d.docx"), ("o2", "oleObject", "x.xlsx")]
    found = Document(body, {"word/embeddings/d.docx": Document(p(r("inner"))).data()}, own).read()
    assert found.text.split() == ["a", "inner"]
    assert [(one.what, one.where) for one in found.left_out] == [("object", ("Excel",))]


def test_parts_that_are_encrypted_or_missing_are_said() -> None:
    data = bytearray(Document(p(r("kept"), FOOT), dict(NOTES), NOTED).data())
    for mark, place, name in ((b"PK\x03\x04", 6, 30), (b"PK\x01\x02", 8, 46)):
        at = data.index(mark)
        while data[at + name : at + name + 18] != b"word/footnotes.xml":
            at = data.index(mark, at + 1)
        data[at + place] |= 1
    found = read(io.BytesIO(bytes(data)), filename="a.docx")
    assert isinstance(found, Extracted)
    assert found.text == "kept\n\n"
    assert [(one.what, one.where) for one in found.left_out] == [("encrypted", ("footnotes.xml",))]
    missing = Document(p(r("kept")), {}, [("r1", "comments", "comments.xml")]).read()
    assert [(one.what, one.where) for one in missing.left_out] == [("damaged", ("comments.xml",))]


def test_documents_in_themselves_end() -> None:
    data = Document(p(r("core"))).data()
    for depth in range(8):
        body = p(r(f"level{depth}")) + '<w:altChunk r:id="a1"/>'
        data = Document(body, {"word/a.docx": data}, [("a1", "aFChunk", "a.docx")]).data()
    found = read(io.BytesIO(data), filename="a.docx")
    assert isinstance(found, Extracted)
    assert [one.what for one in found.left_out] == ["too_deep"]


def test_strict_documents_and_other_prefixes_and_names() -> None:
    strict = Document(p(r("strict"), formula(mr("x=1"))), main="word/document2.xml").data()
    moved = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(strict)) as old, zipfile.ZipFile(moved, "w") as new:
        for name in old.namelist():
            text = (
                old.read(name).decode().replace(f"{MAIN}wordprocessingml/2006/main", f"{STRICT}wordprocessingml/main")
            )
            text = text.replace(f"{MAIN}officeDocument/2006/", f"{STRICT}officeDocument/")
            new.writestr(name, text)
    found = read(moved, filename="x")
    assert isinstance(found, Extracted)
    assert found.text.strip() == "strictx=1"
    paragraph = "<p><pPr><rPr><b/></rPr></pPr><r><t>plain</t></r><w:t>no</w:t></p>"
    plain = f'<document xmlns="{SPACES["w"]}" xmlns:w="other"><body>{paragraph}</body></document>'
    assert Document("", {"word/document.xml": plain}).text() == "plain"
    utf16 = part("document", f"<w:body>{p(r('wide'))}</w:body>").replace("UTF-8", "UTF-16").encode("utf-16")
    assert Document("", {"word/document.xml": utf16}).text() == "wide"


def test_the_text_before_damage_is_kept() -> None:
    cells = table(tr(p(r("a")), p(r("b")))).partition("</w:p></w:tc></w:tr>")[0]
    whole = part("document", f"<w:body>{p(r('kept'))}{cells}")
    found = Document("", {"word/document.xml": whole.removesuffix("</w:document>")}).read()
    assert found.text.startswith("kept\n\n| a | b |")
    assert [one.what for one in found.left_out] == ["rest"]
    with pytest.raises(Unparseable):
        Document("", {"word/document.xml": "<w:document"}).read()


def test_many_notes_take_linear_time() -> None:
    notes = "".join(f'<w:footnote w:id="{id}">{p(r(f"n{id}"))}</w:footnote>' for id in range(20_000))
    marks = "".join(f'<w:r><w:footnoteReference w:id="{id}"/></w:r>' for id in range(20_000))
    began_at = time.monotonic()
    text = Document(p(marks), {"word/footnotes.xml": part("footnotes", notes)}, NOTED[:1]).text()
    assert text.endswith("[^20000]: n19999")
    assert time.monotonic() - began_at < 20


CELL = "<w:tc><w:tcPr><w:gridSpan w:val='9999999'/></w:tcPr><w:p><w:r><w:t>x</w:t></w:r></w:p></w:tc>"


@pytest.mark.parametrize(
    "body",
    [
        "<w:tbl><w:tr><w:tc>" * 30_000,
        "<w:p><w:r><w:txbxContent>" * 30_000,
        "<w:p><w:r><w:t>x</w:t>" + "<w:fldChar w:fldCharType='begin'/>" * 30_000 + "</w:r></w:p>",
        "<w:p><m:oMath>" + "<m:f><m:num>" * 30_000,
        "<w:p>" + "<w:sdt><w:ruby><w:rt>" * 30_000,
        "<mc:AlternateContent><mc:Choice>" * 30_000,
        f"<w:tbl><w:tr>{CELL * 2_000}</w:tr></w:tbl>",
        f"<w:p>{FOOT * 30_000}</w:p>",
    ],
)
def test_mazes_cost_linear_time(body: str) -> None:
    began_at = time.monotonic()
    with suppress(Unparseable):
        read(io.BytesIO(Document(p(r("text")) + body, dict(NOTES), NOTED).data()), filename="a.docx")
    assert time.monotonic() - began_at < 20
