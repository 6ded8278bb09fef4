"""OpenDocument texts: what stands in them is read, once, in its place, letter by letter."""

import pytest

from odf_files import (
    box,
    bullet_level,
    content,
    flat,
    items,
    list_style,
    number_level,
    p,
    package,
    read,
    said,
    sections,
    styles_part,
    ul,
)


def cells(*texts: str) -> str:
    row = "".join(f"<table:table-cell>{text}</table:table-cell>" for text in texts)
    return f"<table:table-row>{row}</table:table-row>"


def table(*rows: str) -> str:
    return f"<table:table>{''.join(rows)}</table:table>"


def h(level: int, text: str, attributes: str = "") -> str:
    return f'<text:h text:outline-level="{level}" {attributes}>{text}</text:h>'


SPANS = "n<text:span>e<text:span>w</text:span></text:span>"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (p("a <text:span>b <text:span>c <text:span>d</text:span></text:span></text:span> e"), "a b c d e"),
        (p(f'see the <text:a xlink:href="x"><text:span>{SPANS}</text:span></text:a>.'), "see the new."),
        (h(2, f"The {SPANS} one"), "## The new one"),
        (ul(p(SPANS)), "- new"),
        (p("x<x:unknown>kept <x:deeper>too</x:deeper></x:unknown>"), "xkept too"),
        ("<x:unknown>kept</x:unknown>", "kept"),
        (f"<text:section><x:wrapper>{p('in it')}</x:wrapper></text:section>", "in it"),
    ],
)
def test_text_is_read_however_it_is_nested(body: str, text: str) -> None:
    assert said(body) == text


def test_white_space_and_hyphens() -> None:
    assert said(p("a<text:tab/>b<text:s text:c='3'/>c<text:s/>d  \n  e")) == "a b c d e"
    assert said(p("a<text:line-break/>b")) == "a\nb"
    assert said(p("QX\u20117781 and QX-<text:soft-page-break/>7782, 5\u00a0mg, Donau\u00addampf")) == (
        "QX-7781 and QX-7782, 5 mg, Donaudampf"
    )


def test_literal_characters_stay() -> None:
    text = "Map&lt;String,Widget&gt; &amp;amp; *a* _b_ c\\_d `e` #f [g](h) 1. &lt;br&gt;"
    assert said(p(text)) == "Map<String,Widget> &amp; *a* _b_ c\\_d `e` #f [g](h) 1. <br>"


def test_blocks_in_cells() -> None:
    body = table(
        cells(ul(p("one"), p("two")), p("plain | bar")),
        cells(h(1, "head") + p(box(p("box")) + "beside"), table(cells(p("inner"), p("cell")))),
    )
    assert said(body).split("\n") == [
        "| - one - two | plain \\| bar |",
        "| --- | --- |",
        "| # head beside box | inner, cell |",
    ]


def test_a_merged_cell_is_read_once_and_a_long_row_block_by_block() -> None:
    wide = (
        f'<table:table-cell table:number-columns-spanned="2">{p("wide")}</table:table-cell><table:covered-table-cell/>'
    )
    merged = table(cells(p("a"), p("b")), f"<table:table-row>{wide}</table:table-row>")
    assert said(merged) == "| a | b |\n| --- | --- |\n| wide |"
    long = table(cells(p("word " * 300), h(1, "In a cell") + p("word " * 300)))
    assert "\n\n# In a cell\n\n" in said(long)


def test_list_numbers_are_those_shown() -> None:
    styles = (
        list_style(
            "L1",
            number_level(1, "1", 'style:num-suffix="." text:start-value="3"'),
            number_level(2, "a", 'style:num-prefix="(" style:num-suffix=")"'),
            number_level(3, "I", 'style:num-suffix=":" text:display-levels="3"'),
        )
        + list_style("L2", bullet_level(1))
        + list_style("L3", number_level(1, ""))
        + list_style("L4", number_level(1, "1"), number_level(2, "1", 'loext:num-list-format="§%1%.%2% "'))
    )
    second = ul(p("x"), p("y") + ul(p("z")))
    body = (
        f'<text:list xml:id="one" text:style-name="L1"><text:list-header>{p("head")}</text:list-header>'
        + items(p("first") + p("more of it") + second)
        + f'<text:list-item text:start-value="9">{p("ninth")}</text:list-item></text:list>'
        + p("between")
        + ul(p("tenth"), style="L1", attributes='text:continue-numbering="true"')
        + ul(p("bullet"), style="L2")
        + ul(p("without"), style="L3")
        + ul(p("eleventh"), style="L1", attributes='text:continue-list="one"')
        + ul(p("anew"), style="L1")
        + ul(p("up") + ul(p("deep")), style="L4")
    )
    assert [line for line in said(body, styles=styles).split("\n") if line] == [
        "head",
        "3. first",
        "  more of it",
        "  (a) x",
        "  (b) y",
        "    3.b.I: z",
        "9. ninth",
        "between",
        "10. tenth",
        "- bullet",
        "without",
        "11. eleventh",
        "3. anew",
        "1 up",
        "  §1.1 deep",
    ]


@pytest.mark.parametrize(
    ("form", "labels"),
    [
        ("A", "A, B, Z, AA"),
        ("i", "i, ii, xxvi, xxvii"),
        ("01, 02, 03, ...", "01, 02, 26, 27"),
        ("一, 二, 三, ...", "一, 二, 二十六, 二十七"),
        ("①, ②, ③, ...", "①, ②, 26, 27"),
        ("א, ב, ג, ...", "א, ב, 26, 27"),
    ],
)
def test_numbers_in_the_signs_of_the_document(form: str, labels: str) -> None:
    started = f'<text:list-item text:start-value="26">{p("w")}</text:list-item>'
    body = f'<text:list text:style-name="L">{items(p("w"), p("w"))}{started}{items(p("w"))}</text:list>'
    assert said(body, styles=list_style("L", number_level(1, form))) == "\n".join(
        f"{label} w" for label in labels.split(", ")
    )


def test_a_number_that_stands_in_the_document_is_not_counted() -> None:
    body = ul("<text:number>§ 7</text:number>" + p("seven"), "<text:number>•</text:number>" + p("eight"), style="L")
    assert said(body, styles=list_style("L", number_level(1, "1"))) == "§ 7 seven\n• eight"


def test_the_numbers_of_headings_are_those_shown() -> None:
    outline = "".join(
        f'<text:outline-level-style text:level="{level}" style:num-format="1" text:display-levels="{level}"/>'
        for level in (1, 2)
    )
    parts = {
        "styles.xml": styles_part(
            styles=f"<text:outline-style>{outline}</text:outline-style>"
            '<style:style style:name="Plain" style:family="paragraph" style:list-style-name=""/>'
            '<style:style style:name="Title" style:family="paragraph"/>'
        )
    }

    own = '<style:style style:name="P1" style:family="paragraph" style:parent-style-name="Title"/>'
    body = (
        '<text:p text:style-name="P1">Handbook</text:p><text:p text:style-name="Heading_20_3">Web</text:p>'
        + h(1, "One")
        + h(2, "Deep")
        + h(2, "Deeper")
        + h(1, "Two")
        + h(2, "In two")
        + h(1, "None", 'text:style-name="Plain"')
        + h(1, "Header", 'text:is-list-header="true"')
        + h(1, "Seven", 'text:restart-numbering="true" text:start-value="7"')
        + h(3, "Third")
        + h(1, "<text:number>IX</text:number>Written")
    )
    assert said(body, styles=own, parts=parts).split("\n\n") == [
        "# Handbook",
        "### Web",
        "# 1 One",
        "## 1.1 Deep",
        "## 1.2 Deeper",
        "# 2 Two",
        "## 2.1 In two",
        "# None",
        "# Header",
        "# 7 Seven",
        "### Third",
        "# IX Written",
    ]


def test_boxes_are_read_beside_their_paragraph_wherever_they_are_anchored() -> None:
    shape = f"<draw:custom-shape>{p('SHAPE')}<draw:enhanced-geometry/></draw:custom-shape>"
    group = f"<draw:g><draw:g>{shape}</draw:g><draw:rect>{p('RECT')}</draw:rect></draw:g>"
    assert said(p(f"before {box(p('BOX') + p('SECOND'))}after")) == "before after\n\nBOX\n\nSECOND"
    assert said(p(f"before {group}after")) == "before after\n\nSHAPE\n\nRECT"
    assert said(box(p("on the page"), 'text:anchor-type="page"') + p("text")) == "on the page\n\ntext"
    inner = box(p("outer " + box(p("inner"))))
    assert sorted(said(p(f"text {inner}")).split("\n\n")) == ["inner", "outer", "text"]
    assert said(ul(p("item" + box(ul(p("in box")))))) == "- item\n- in box"


def test_footnotes_and_endnotes_with_equal_ids() -> None:
    def note(kind: str, label: str, text: str) -> str:
        return (
            f'<text:note text:id="ftn1" text:note-class="{kind}"><text:note-citation>{label}</text:note-citation>'
            f"<text:note-body>{p(text)}</text:note-body></text:note>"
        )

    both = p(f"a{note('footnote', '1', 'FOOT')} and b{note('endnote', 'i', 'END')}.")
    assert said(both) == "a[^1] and b[^i].\n\n[^1]: FOOT\n\n[^i]: END"
    in_cell = table(cells(p("c" + note("footnote", "2", "CELL")), p("d")))
    assert said(in_cell) == "| c[^2] [^2]: CELL | d |\n| --- | --- |"
    with_box = note("footnote", "1", f"of {box(p('BOX'))}it")
    assert said(p(f"a{with_box}")) == "a[^1]\n\n[^1]: of it\n\nBOX"


def test_comments_are_read_with_their_author() -> None:
    def comment(text: str) -> str:
        return (
            f'<office:annotation office:name="1"><dc:creator>Ann Lee</dc:creator><dc:date>2024-01-01</dc:date>'
            f"<meta:creator-initials>AL</meta:creator-initials>{text}</office:annotation>"
        )

    range_end = '<office:annotation-end office:name="1"/>'
    assert said(p(f"one {comment(p('check') + ul(p('b')))}two{range_end} three")) == (
        "one two three\n\n[Comment by Ann Lee: check - b]"
    )
    in_cell = table(cells(p("x" + comment(p("why"))), p("y")))
    assert said(in_cell).startswith("| x [Comment by Ann Lee: why] | y |")


def test_tracked_changes_show_the_final_text() -> None:
    region = (
        '<text:tracked-changes><text:changed-region text:id="a"><text:deletion><office:change-info>'
        f"<dc:creator>Ann</dc:creator><dc:date>x</dc:date></office:change-info>{p('MOVED')}</text:deletion></text:changed-region></text:tracked-changes>"
    )
    text = p("kept <text:change text:change-id='a'/><text:change-start text:change-id='b'/>MOVED<text:change-end/> end")
    assert said(region + text) == "kept MOVED end"


def test_fields() -> None:
    assert said(p("Page <text:page-number>7</text:page-number>of <text:page-count>9</text:page-count>")) == "Page of 9"
    assert (
        said(
            p(
                "<text:variable-set>1</text:variable-set> <text:user-field-get>2</text:user-field-get> "
                "<text:text-input>3</text:text-input> <text:database-display>4</text:database-display> "
                '<text:dropdown><text:label text:value="no"/>5</text:dropdown> '
                "<text:conditional-text>6</text:conditional-text> <text:bookmark-ref>7</text:bookmark-ref>"
                "<text:bookmark text:name='no'/> <text:placeholder>&lt;8&gt;</text:placeholder> "
                "<text:bibliography-mark text:title='no'>[9]</text:bibliography-mark><text:script>no()</text:script>"
            )
        )
        == "1 2 3 4 5 6 7 <8> [9]"
    )
    field = '<text:hidden-text text:string-value="HIDDEN">{}</text:hidden-text>'
    assert said(p(f"{field.format('')}, {field.format('SHOWN')}")) == "HIDDEN, SHOWN"
    ruby = "<text:ruby><text:ruby-base>漢字</text:ruby-base><text:ruby-text>かんじ</text:ruby-text></text:ruby>"
    assert said(p(ruby)) == "漢字(かんじ)"


def test_an_index_is_read_without_its_template() -> None:
    index = (
        "<text:table-of-content><text:table-of-content-source><text:index-title-template>no</text:index-title-template>"
        f"</text:table-of-content-source><text:index-body><text:index-title>{p('Contents')}</text:index-title>"
        f"{p('Install<text:tab/>3')}</text:index-body></text:table-of-content>"
    )
    assert said(index) == "Contents\n\nInstall 3"


def test_headers_and_footers_are_read_once_without_page_numbers() -> None:
    master = (
        '<style:master-page style:name="{0}"><style:header>' + p("ACME {1}" + box(p("LOGO"))) + "</style:header>"
        '<style:header-left style:display="false">'
        + p("NOT SHOWN")
        + "</style:header-left><style:footer>"
        + p("Page <text:page-number>1</text:page-number> of <text:page-count>3</text:page-count>")
        + p("Secret <text:page-number>1</text:page-number> internal")
        + "</style:footer></style:master-page>"
    )
    masters = master.format("a", "Corp") + master.format("b", "Corp")
    assert said(p("body"), parts={"styles.xml": styles_part(masters=masters)}) == (
        "body\n\nACME Corp\n\nLOGO\n\nSecret internal"
    )


def test_form_controls_are_read_where_they_are_shown() -> None:
    forms = (
        '<office:forms><form:form><form:text form:id="c1" form:current-value="Ann"/>'
        '<form:checkbox form:id="c2" form:label="Agreed" form:current-state="checked"/>'
        '<form:listbox form:id="c3"><form:option form:label="No"/>'
        '<form:option form:label="Yes" form:selected="true"/></form:listbox>'
        f'<form:textarea form:id="c4" form:current-value="no">{p("Long text")}</form:textarea>'
        '<form:button form:id="c5" form:label="Send"/><form:hidden form:value="no"/></form:form></office:forms>'
    )
    places = "".join(f'<draw:control draw:control="c{number}"/> ' for number in (1, 2, 3, 4))
    assert said(forms + p(f"Name: {places}")) == "Name: Ann [x] Agreed Yes Long text\n\nSend"


MATH = (
    "<math:math><math:semantics><math:mrow><math:mi>ODTMATH</math:mi><math:mo>=</math:mo><math:mfrac><math:mrow>"
    "<math:mi>a</math:mi><math:mo>+</math:mo><math:msup><math:mi>b</math:mi><math:mn>2</math:mn></math:msup></math:mrow>"
    "<math:mi>c</math:mi></math:mfrac></math:mrow><math:annotation>no</math:annotation></math:semantics></math:math>"
)


def embed(name: str) -> str:
    return (
        f'<draw:frame text:anchor-type="as-char"><draw:object xlink:href="./{name}"/>'
        f'<draw:image xlink:href="./ObjectReplacements/{name}"/></draw:frame>'
    )


def test_formulas_stand_in_their_sentence() -> None:
    document = MATH.replace(
        "<math:math>",
        '<math xmlns:math="http://www.w3.org/1998/Math/MathML" xmlns="http://www.w3.org/1998/Math/MathML">',
    )
    document = document.replace("</math:math>", "</math>")
    doctype = '<?xml version="1.0"?><!DOCTYPE math:math PUBLIC "-//OpenOffice.org//DTD MathML 1.01//EN" "math.dtd">'
    for part in (document, doctype + document):
        found = read(package(p(f"The dose is {embed('Object 1')}mg."), parts={"Object 1/content.xml": part.encode()}))
        assert found.text == "The dose is ODTMATH=(a+b^2)/c mg.\n\n"
        assert not found.left_out
    inline = f'<draw:frame text:anchor-type="as-char"><draw:object>{MATH}</draw:object></draw:frame>'
    assert read(flat(p(f"The dose is {inline} mg."))).text == "The dose is ODTMATH=(a+b^2)/c mg.\n\n"
    typed = "<math:semantics><math:mrow/><math:annotation>x over y</math:annotation></math:semantics>"
    assert said(p(f"is <math:math>{typed}</math:math>.")) == "is x over y."


CHART = (
    "<chart:chart><chart:title>{0}</chart:title><chart:plot-area><chart:axis><chart:title>{1}</chart:title></chart:axis>"
    "</chart:plot-area><table:table table:name='local-table'>{2}</table:table></chart:chart>"
)


def test_charts_and_documents_in_a_document() -> None:
    chart = CHART.format(
        p("Sales by region"), p("Euro"), cells("", p("2023")) + cells(p("North"), p("17")) + cells(p("x"), p("NaN"))
    )
    sheet = f"<table:table table:name='S'>{cells(p('k'), p('v'))}</table:table>"
    parts = {
        "Object 1/content.xml": content(chart, form="chart"),
        "Object 2/content.xml": content(sheet, form="ods"),
        "Object 3/content.xml": content(p("inner text")),
    }
    body = p(f"See {embed('Object 1')} here") + p(embed("Object 2")) + p(embed("Object 3")) + p(embed("Object 1"))
    found = read(package(body, parts=parts))
    assert found.text.strip() == (
        "See here\n\nSales by region\n\nEuro\n\n|  | 2023 |\n| --- | --- |\n| North | 17 |\n| x |\n\n"
        "| k | v |\n| --- | --- |\n\ninner text"
    )
    assert not found.left_out


def test_what_is_not_read_is_said() -> None:
    picture = (
        "<draw:frame><draw:image xlink:href='Pictures/a.svg'/><draw:image xlink:href='Pictures/a.png'/>%s</draw:frame>"
    )
    alt = "<svg:title>Org chart</svg:title><svg:desc>Who reports to whom</svg:desc>"
    body = p("text" + picture % alt) + p(picture % "") + p(embed("Object 9"))
    body += '<draw:frame><draw:object-ole xlink:href="./Object 5"/><draw:image/></draw:frame>'
    body += "<draw:frame><draw:plugin draw:mime-type='video/mp4'/></draw:frame>"
    for cached in ("", p("cached")):
        body += f'<text:section><text:section-source xlink:href="other.odt"/>{cached}</text:section>'
    found = read(package(body, parts={"Object 5": b"Name,Amount,Price\n" + b"apple,3,4\n" * 9}))
    assert found.text.startswith("text\n\nOrg chart\n\nWho reports to whom\n\n")
    assert "Name: apple; Amount: 3" in found.text
    assert {(one.what, one.count, one.note) for one in found.left_out} == {
        ("object", 1, "Object 9 is missing"),
        ("object", 1, "audio or video"),
        ("object", 1, "linked: other.odt"),
        ("image", 2, ""),
    }
    assert [section.label for section in found.sections] == ["", "Object 5"]


def test_a_single_xml_document_is_read_like_a_package() -> None:
    styles = list_style("L1", number_level(1, "i", 'style:num-suffix=")"'))
    data = "<draw:frame><draw:image><office:binary-data>aGVsbG8gd29ybGQ=</office:binary-data></draw:image></draw:frame>"
    found = read(flat(ul(p("one" + data), style="L1"), styles=styles))
    assert found.text == "i) one\n\n"
    assert found.formats == {"odt"}
    assert [one.what for one in found.left_out] == ["image"]
    assert list(sections(flat("<table:table table:name='S'/>" + p("x"), form="ods"))) == [""]
