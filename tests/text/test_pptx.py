"""PowerPoint: what a slide says is read, once, and what is not read is said."""

import io
from dataclasses import dataclass, field

import pytest

import formats
from airweave_server.text.documents import read
from airweave_server.text.parts import Extracted

A = "http://schemas.openxmlformats.org/drawingml/2006/main"
P = "http://schemas.openxmlformats.org/presentationml/2006/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
C = "http://schemas.openxmlformats.org/drawingml/2006/chart"
D = "http://schemas.openxmlformats.org/drawingml/2006/diagram"
MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"
SPACES = (
    f'xmlns:a="{A}" xmlns:p="{P}" xmlns:r="{R}" xmlns:mc="{MC}"'
    ' xmlns:a14="http://schemas.microsoft.com/office/drawing/2010/main"'
    ' xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    ' xmlns:p188="http://schemas.microsoft.com/office/powerpoint/2018/8/main"'
)
EMPTY_NOTE = '<p:sp><p:nvSpPr><p:nvPr><p:ph type="sldImg"/></p:nvPr></p:nvSpPr></p:sp>'


@dataclass
class Deck:
    """A presentation. ``parts``: more parts, by name; ``relations``: (type, target) of parts, by their name."""

    slides: list[str]
    parts: dict[str, str | bytes] = field(default_factory=dict)
    relations: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def data(self) -> bytes:
        ids = "".join(f'<p:sldId id="{256 + i}" r:id="rId{i}"/>' for i in range(1, len(self.slides) + 1))
        parts: dict[str, str | bytes] = {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": formats.relations([("officeDocument", "ppt/presentation.xml")]),
            "ppt/presentation.xml": f"<p:presentation {SPACES}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
        }
        own = [("slide", f"slides/slide{i}.xml") for i in range(1, len(self.slides) + 1)]
        parts["ppt/_rels/presentation.xml.rels"] = formats.relations(own + self.relations.get("presentation", []))
        for i, body in enumerate(self.slides, 1):
            parts[f"ppt/slides/slide{i}.xml"] = tree("sld", body)
            parts[f"ppt/slides/_rels/slide{i}.xml.rels"] = formats.relations(self.relations.get(f"slide{i}", []))
        return formats.zipped(parts | self.parts)

    def read(self) -> Extracted:
        found = read(io.BytesIO(self.data()), filename="a.pptx")
        assert isinstance(found, Extracted), found
        return found

    def text(self) -> str:
        return self.read().text


def tree(root: str, body: str, attributes: str = "") -> str:
    return f"<p:{root} {SPACES} {attributes}><p:cSld><p:spTree>{body}</p:spTree></p:cSld></p:{root}>"


def shape(paragraphs: str, placeholder: str = "") -> str:
    kind = f'<p:ph type="{placeholder}"/>' if placeholder else ""
    properties = f'<p:nvSpPr><p:cNvPr id="1" name="x"/><p:nvPr>{kind}</p:nvPr></p:nvSpPr>'
    return f"<p:sp>{properties}<p:txBody>{paragraphs}</p:txBody></p:sp>"


def line(text: str, properties: str = "") -> str:
    return f"<a:p>{properties}<a:r><a:t>{text}</a:t></a:r></a:p>"


def frame(data: str) -> str:
    return f"<p:graphicFrame><a:graphic><a:graphicData>{data}</a:graphicData></a:graphic></p:graphicFrame>"


def test_runs_breaks_tabs_fields_and_literal_signs() -> None:
    body = (
        "<a:p><a:r><a:t>QX</a:t></a:r><a:r><a:t>\u20117781\tand   &lt;T&gt; &amp; *a_b* \\n</a:t></a:r><a:br/>"
        '<a:r><a:t>next\u00a0line so\u00adft_x000B_vertical</a:t></a:r><a:fld type="slidenum"><a:t>99</a:t></a:fld>'
        '<a:fld type="datetime1"><a:t>27 May</a:t></a:fld></a:p>'
    )
    text = Deck([shape(body)]).text()
    assert text == "QX-7781 and <T> & *a_b* \\n\nnext line soft\nvertical27 May\n\n"


def test_groups_titles_and_text_boxes_are_read_in_their_order() -> None:
    body = (
        f"{shape(line('Head'), 'title')}<p:grpSp><p:grpSp>{shape(line('deep'))}</p:grpSp>"
        f"{shape(line('less'))}</p:grpSp>"
        f"{shape(line('last'))}"
    )
    assert Deck([body]).text() == "# Head\n\ndeep\n\nless\n\nlast\n\n"


def test_lists_have_the_numbers_that_show() -> None:
    def numbered(text: str, attributes: str, level: int = 0) -> str:
        return line(text, f'<a:pPr lvl="{level}"><a:buAutoNum {attributes}/></a:pPr>')

    body = (
        numbered("one", 'type="arabicPeriod"')
        + numbered("inner", 'type="alphaLcParenR"', 1)
        + numbered("again", 'type="alphaLcParenR"', 1)
        + numbered("two", 'type="arabicPeriod"')
        + line("dot", '<a:pPr><a:buChar char="•"/></a:pPr>')
        + numbered("nine", 'type="romanUcPeriod" startAt="9"')
        + "<a:p/>"
        + numbered("ten", 'type="romanUcPeriod" startAt="9"')
    )
    lines = ["1. one", "  a) inner", "  b) again", "2. two", "- dot", "IX. nine", "X. ten"]
    assert Deck([shape(body)]).text().split("\n")[:7] == lines


def test_a_table_has_all_blocks_of_its_cells_and_a_merged_cell_once() -> None:
    def cell(*texts: str, attributes: str = "") -> str:
        return f"<a:tc {attributes}><a:txBody>{''.join(map(line, texts))}</a:txBody></a:tc>"

    wide, covered = cell("wide", attributes='gridSpan="2"'), cell("stale", attributes='hMerge="1"')
    rows = f"<a:tr>{wide}{covered}</a:tr><a:tr>{cell('a', 'b|c')}{cell('d')}</a:tr>"
    assert Deck([frame(f"<a:tbl>{rows}</a:tbl>")]).text() == "| wide |  |\n| a b\\|c | d |\n\n"


def test_a_formula_stands_in_its_sentence_and_an_alternative_is_read_once() -> None:
    math = "<m:oMath><m:f><m:num><m:r><m:t>a</m:t></m:r></m:num><m:den><m:r><m:t>b</m:t></m:r></m:den></m:f>"
    math += "</m:oMath>"
    formula = (
        f'<mc:AlternateContent><mc:Choice Requires="a14"><a14:m>{math}</a14:m></mc:Choice>'
        "<mc:Fallback><a:r><a:t>picture</a:t></a:r></mc:Fallback></mc:AlternateContent>"
    )
    inline = f"<a:p><a:r><a:t>so</a:t></a:r>{formula}<a:r><a:t>holds</a:t></a:r></a:p>"
    chosen = (
        f'<mc:AlternateContent><mc:Choice Requires="p14">{shape(line("new"))}</mc:Choice>'
        f"<mc:Fallback>{shape(line('old'))}</mc:Fallback></mc:AlternateContent>"
    )
    only_old = (
        '<mc:AlternateContent><mc:Choice Requires="x"><p:contentPart/></mc:Choice>'
        f"<mc:Fallback>{shape(line('drawn'))}</mc:Fallback></mc:AlternateContent>"
    )
    assert Deck([shape(inline) + chosen + only_old]).text() == "so a/b holds\n\nnew\n\ndrawn\n\n"


def test_notes_and_both_kinds_of_comments_are_read_with_their_authors() -> None:
    deck = Deck([shape(line("words"))])
    deck.relations["slide1"] = [
        ("notesSlide", "../notesSlides/n.xml"),
        ("comments", "../comments/old.xml"),
        ("comments", "../comments/new.xml"),
    ]
    deck.relations["presentation"] = [("commentAuthors", "commentAuthors.xml"), ("authors", "authors.xml")]
    deck.parts = {
        "ppt/notesSlides/n.xml": tree("notes", EMPTY_NOTE + shape(line("say it"), "body") + shape(line("7"), "sldNum")),
        "ppt/commentAuthors.xml": f'<p:cmAuthorLst {SPACES}><p:cmAuthor id="3" name="Ann"/></p:cmAuthorLst>',
        "ppt/authors.xml": f'<p188:authorLst {SPACES}><p188:author id="{{G}}" name="Bob"/></p188:authorLst>',
        "ppt/comments/old.xml": f'<p:cmLst {SPACES}><p:cm authorId="3"><p:text>too long</p:text></p:cm></p:cmLst>',
        "ppt/comments/new.xml": f'<p188:cmLst {SPACES}><p188:cm authorId="{{G}}"><p188:replyLst>'
        '<p188:reply authorId="3">'
        f"<p188:txBody>{line('no')}</p188:txBody></p188:reply></p188:replyLst>"
        f"<p188:txBody>{line('why')}{line('so')}</p188:txBody></p188:cm></p188:cmLst>",
    }
    text = deck.text()
    assert text == (
        "words\n\nsay it\n\n[Comment by Ann: too long]\n\n[Comment by Bob: why so]\n\n[Comment by Ann: no]\n\n"
    )


def test_charts_diagrams_and_embedded_documents_are_read() -> None:
    c, dgm = (
        "http://schemas.openxmlformats.org/drawingml/2006/chart",
        "http://schemas.openxmlformats.org/drawingml/2006/diagram",
    )
    body = frame(f'<c:chart xmlns:c="{c}" r:id="rId1"/>') + frame(f'<d:relIds xmlns:d="{dgm}" r:dm="rId2"/>')
    body += frame(
        '<mc:AlternateContent><mc:Choice Requires="v"><p:oleObj r:id="rId3"/></mc:Choice><mc:Fallback>'
        '<p:oleObj r:id="rId3"><p:pic/></p:oleObj></mc:Fallback></mc:AlternateContent>'
    )
    deck = Deck([body])
    deck.relations["slide1"] = [
        ("chart", "../charts/c.xml"),
        ("diagramData", "../diagrams/d.xml"),
        ("package", "../embeddings/notes.csv"),
    ]
    deck.parts = {
        "ppt/charts/c.xml": f'<c:chartSpace xmlns:c="{C}" xmlns:a="{A}"><c:chart><c:title><c:tx><c:rich>'
        f"{line('Sales')}</c:rich></c:tx></c:title><c:plotArea><c:pieChart><c:ser><c:tx><c:v>2026</c:v></c:tx><c:cat>"
        '<c:strCache><c:pt idx="0"><c:v>Apples</c:v></c:pt></c:strCache></c:cat></c:ser></c:pieChart></c:plotArea>'
        "</c:chart></c:chartSpace>",
        "ppt/diagrams/d.xml": f'<d:dataModel xmlns:d="{D}" xmlns:a="{A}"><d:ptLst><d:pt modelId="1"><d:t>'
        f"{line('Step')}</d:t></d:pt></d:ptLst></d:dataModel>",
        "ppt/embeddings/notes.csv": "Name,Amount\npear,4\n",
    }
    found = deck.read()
    assert "Sales" in found.text
    assert "2026" in found.text
    assert "Apples" in found.text
    assert "- Step" in found.text
    assert [section.label for section in found.sections] == ["Slide 1", "Slide 1 > notes.csv"]
    assert found.text.count("Name: pear; Amount: 4") == 1
    assert not found.left_out


def test_a_missing_or_damaged_part_is_said_and_the_rest_is_read() -> None:
    broken_chart = frame(f'<c:chart xmlns:c="{C}" r:id="rId9"/>')
    deck = Deck([shape(line("first")), "<open>", shape(line("third")) + broken_chart])
    deck.parts["ppt/notesSlides/n.xml"] = "<broken"
    deck.relations["slide1"] = [("notesSlide", "../notesSlides/n.xml")]
    found = deck.read()
    assert found.text == "first\n\nthird\n\n"
    assert [section.label for section in found.sections] == ["Slide 1", "Slide 3"]
    assert {(one.what, one.where) for one in found.left_out} == {
        ("damaged", ("Slide 1",)),
        ("page", ("Slide 2",)),
        ("object", ("Slide 3",)),
    }


def test_what_the_layout_shows_is_read_once_and_its_prompts_never() -> None:
    layout = shape(line("Click to add title"), "title") + shape(line("Confidential"))
    master = shape(line("Second level"), "body") + shape(line("The Company"))
    slide = shape("<a:p/>", "title") + shape(line("Footer"), "ftr") + shape(line("4"), "sldNum")
    deck = Deck([slide + shape(line("one")), slide + shape(line("two"))])
    deck.relations |= {f"slide{i}": [("slideLayout", "../slideLayouts/l.xml")] for i in (1, 2)}
    deck.parts = {
        "ppt/slideLayouts/l.xml": tree("sldLayout", layout),
        "ppt/slideLayouts/_rels/l.xml.rels": formats.relations([("slideMaster", "../slideMasters/m.xml")]),
        "ppt/slideMasters/m.xml": tree("sldMaster", master),
    }
    assert deck.text() == "Footer\n\none\n\nConfidential\n\nThe Company\n\ntwo\n\n"


def test_hidden_slides_are_read_and_pictures_are_counted_with_their_description() -> None:
    picture = (
        '<p:pic><p:nvPicPr><p:cNvPr id="2" name="Picture 1" descr="A map of QX-7781"/><p:nvPr/></p:nvPicPr></p:pic>'
    )
    film = (
        '<p:pic><p:nvPicPr><p:cNvPr id="3" name="x"/><p:nvPr><a:videoFile r:link="rId1"/></p:nvPr></p:nvPicPr></p:pic>'
    )
    deck = Deck([picture + picture + film])
    deck.parts["ppt/slides/slide1.xml"] = tree("sld", picture + picture + film, 'show="0"')
    found = deck.read()
    assert "[Image: A map of QX-7781]" in found.text
    assert [(one.what, one.count, one.note) for one in found.left_out] == [
        ("image", 2, ""),
        ("image", 1, "a video or sound is not read"),
    ]


@pytest.mark.parametrize("order", [(2, 1), (1, 2)])
def test_slides_come_in_the_order_of_the_show(order: tuple[int, int]) -> None:
    deck = Deck([shape(line("eins")), shape(line("zwei"))])
    ids = "".join(f'<p:sldId id="{i}" r:id="rId{i}"/>' for i in order)
    deck.parts["ppt/presentation.xml"] = f"<p:presentation {SPACES}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>"
    words = {1: "eins", 2: "zwei"}
    assert deck.text() == "".join(f"{words[i]}\n\n" for i in order)
