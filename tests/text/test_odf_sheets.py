"""OpenDocument spreadsheets, presentations and drawings, and files that are damaged or hostile."""

import time

import pytest

import formats
from airweave_server.text import odf_walk
from odf_files import (
    box,
    bullet_level,
    content,
    flat,
    list_style,
    mimetype,
    p,
    package,
    read,
    refused,
    said,
    sections,
    styles_part,
    ul,
)


def cell(text: str = "", attributes: str = "") -> str:
    return f"<table:table-cell {attributes}>{text}</table:table-cell>"


def row(*cells: str, attributes: str = "") -> str:
    return f"<table:table-row {attributes}>{''.join(cells)}</table:table-row>"


def sheet(*rows: str, name: str = "Budget", attributes: str = "") -> str:
    return f'<table:table table:name="{name}" {attributes}>{"".join(rows)}</table:table>'


SPANS = "<text:span>f<text:span>ast</text:span></text:span>"
HEAD = row(cell(p("Item")), cell(p("Cost")))


def lines(*rows: str, head: str = HEAD) -> list[str]:
    return said(sheet(head, *rows), form="ods").split("\n")


@pytest.mark.parametrize(
    ("attributes", "text", "shown"),
    [
        ('office:value-type="float" office:value="3"', "3", "3"),
        ('office:value-type="float" office:value="3"', "3.00 €", "3.00 €"),
        ('office:value-type="float" office:value="1234.5"', "1,234.50", "1,234.50 (1234.5)"),
        ('office:value-type="percentage" office:value="0.1225"', "12.25%", "12.25% (0.1225)"),
        ('office:value-type="float" office:value="1067"', "01067", "01067 (1067)"),
        ('office:value-type="float" office:value="4111111111111111"', "4.11E+15", "4.11E+15 (4111111111111111)"),
        ('office:value-type="float" office:value="0.333333333333333"', "0.33", "0.33 (0.333333333333333)"),
        ('office:value-type="date" office:date-value="2024-03-04"', "04/03/24", "04/03/24 (2024-03-04)"),
        ('office:value-type="date" office:date-value="2024-03-04T00:00:00"', "2024-03-04", "2024-03-04"),
        ('office:value-type="time" office:time-value="PT36H30M00S"', "36:30:00", "36:30:00"),
        ('office:value-type="time" office:time-value="PT13H30M05S"', "1:30 PM", "1:30 PM (13:30:05)"),
        ('office:value-type="time" office:time-value="PT1013119H00M00S"', "7:00", "7:00 (2015-07-28 07:00)"),
        ('office:value-type="time" office:time-value="PT99999999H00M00S"', "15:00", "15:00 (99999999:00:00)"),
        ('office:value-type="float" office:value="1.5E-05"', "0.00", "0.00 (0.000015)"),
        ('office:value-type="boolean" office:boolean-value="true"', "TRUE", "TRUE"),
        ('office:value-type="float" office:value="1"', "TRUE", "TRUE"),
        ('office:value-type="float" office:value="5"', "", "5"),
        ('office:value-type="date" office:date-value="2024-03-04"', "", "2024-03-04"),
        ('office:value-type="string" office:string-value="kept"', "", "kept"),
    ],
)
def test_cells_show_what_a_person_sees_and_the_value_where_it_differs(attributes: str, text: str, shown: str) -> None:
    data = row(cell(p("Rent")), cell(p(text) if text else "", attributes))
    assert lines(data) == [f"Item: Rent; Cost: {shown}"]


def test_what_is_in_a_cell_and_above_it() -> None:
    note = (
        f"<office:annotation><dc:creator>Ann</dc:creator><dc:date>x</dc:date>{p('too')}{p('much')}</office:annotation>"
    )
    shape = f"<draw:custom-shape>{p('SHAPE')}</draw:custom-shape>"
    image = '<draw:frame><draw:image xlink:href="a.png"/></draw:frame>'
    chart = '<draw:frame><draw:object xlink:href="./Object 1"/><draw:image/></draw:frame>'
    value = 'office:value-type="float" office:value="1234"'
    data = row(
        cell(p("a<text:s/>b") + p("<text:span>c<text:span>d</text:span></text:span>")), cell(note + p("1,234"), value)
    )
    anchored = row(cell(shape + image + p("e")), cell(chart))
    shapes = f"<table:shapes><draw:g><draw:rect>{p('RECT')}</draw:rect></draw:g></table:shapes>"
    local = sheet(row(cell(), cell(p("Series"))), row(cell(p("North")), cell(p("17"), 'office:value="17"')))
    titled = content(f"<chart:chart><chart:title>{p('CHART')}</chart:title>{local}</chart:chart>", form="chart")
    found = read(package(sheet(shapes, HEAD, data, anchored), form="ods", parts={"Object 1/content.xml": titled}))
    assert found.text == (
        "Item: a b cd; Cost: 1,234 (1234) [Comment by Ann: too much]\nItem: e\n\nRECT\n\nSHAPE\n\nCHART\n\n"
        "|  | Series |\n| --- | --- |\n| North |\n\n"
    )
    assert {section.label for section in found.sections} == {"Sheet Budget"}
    assert [(one.what, one.where) for one in found.left_out] == [("image", ("Sheet Budget",))]


def test_sheets_hidden_ones_too_and_what_is_on_none() -> None:
    display = '<style:table-properties table:display="false"/>'
    hidden = f'<style:style style:name="ta1" style:family="table">{display}</style:style>'
    name = "<text:sheet-name>???</text:sheet-name> (<text:title>???</text:title>)"
    number = "Page <text:page-number>1</text:page-number> / <text:page-count>9</text:page-count>"
    masters = (
        f"<style:master-page><style:header><style:region-left>{p('ACME Corp')}</style:region-left>"
        f"<style:region-right>{p(name)}</style:region-right></style:header>"
        f"<style:footer>{p(number)}</style:footer></style:master-page>"
    )
    body = sheet(HEAD, row(cell(p("Rent")), cell(p("3")))) + sheet(
        row(cell(p("secret"))), name="Hidden", attributes='table:style-name="ta1"'
    )
    data = package(body, form="ods", styles=hidden, parts={"styles.xml": styles_part(masters=masters)})
    assert sections(data) == {"Sheet Budget": "Item: Rent; Cost: 3", "Sheet Hidden": "secret", "": "ACME Corp"}


def test_groups_of_rows_and_merged_cells() -> None:
    merged = row(cell(p("wide"), 'table:number-columns-spanned="2"'), "<table:covered-table-cell/>")
    inner = f"<table:table-rows>{row(cell(p('x')), cell(p('7')))}</table:table-rows>"
    grouped = f"<table:table-row-group>{inner}</table:table-row-group>"
    assert lines(merged, grouped, head=f"<table:table-header-rows>{HEAD}</table:table-header-rows>") == [
        "Item: wide",
        "Item: x; Cost: 7",
    ]


def test_repeated_cells_and_rows() -> None:
    empty = row(
        cell(attributes='table:number-columns-repeated="16384"'), attributes='table:number-rows-repeated="1048576"'
    )
    gap = row(cell(attributes='table:number-columns-repeated="1"'), cell(p("7"), 'table:number-columns-repeated="2"'))
    twice = row(cell(p("same")), attributes='table:number-rows-repeated="2"')
    assert lines(gap, twice, empty) == ["Cost: 7; 7", "Item: same", "Item: same"]


def frame(kind: str, text: str) -> str:
    return box(text, f'presentation:class="{kind}"')


SLIDE = (
    '<draw:page draw:name="p1" presentation:use-footer-name="f1">'
    + frame("title", p("Goals"))
    + frame("outline", ul(p(f"Grow {SPANS}") + ul(p("in <text:line-break/>Asia")), style="L1"))
    + f"<draw:g><draw:custom-shape>{p('GROUPED')}</draw:custom-shape></draw:g>"
    + f"<draw:frame><table:table>{row(cell(p('a')), cell(p('b')))}</table:table><draw:image/></draw:frame>"
    + frame("footer", p("ACME"))
    + frame("page-number", p("&lt;number&gt;"))
    + f"<office:annotation><dc:creator>Ann</dc:creator><dc:date>x</dc:date>{p('why?')}</office:annotation>"
    + f"<presentation:notes><draw:page-thumbnail/>{frame('notes', p('Say it slowly'))}"
    + frame("page-number", p("&lt;number&gt;"))
    + "</presentation:notes></draw:page>"
)


def test_slides() -> None:
    styles = list_style("L1", bullet_level(1), bullet_level(2))
    master = styles_part(masters=f"<style:master-page>{box(p('MASTER'))}</style:master-page>")
    declared = '<presentation:footer-decl presentation:name="f1">Confidential</presentation:footer-decl>'
    data = package(declared + SLIDE + SLIDE, form="odp", styles=styles, parts={"styles.xml": master})
    text = (
        "# Goals\n\n- Grow fast\n  - in\n    Asia\n\nGROUPED\n\n| a | b |\n| --- | --- |\n\n"
        "%s[Comment by Ann: why?]\n\nNotes:\n\nSay it slowly%s"
    )
    assert sections(data) == {"Slide 1": text % ("ACME\n\n", "\n\nConfidential"), "Slide 2": text % ("", "")}
    assert not read(data).left_out


def test_drawings_and_templates() -> None:
    page = f"<draw:page><draw:rect>{p('In a box')}<svg:title>Alt</svg:title></draw:rect></draw:page>"
    assert sections(package(page, form="odg")) == {"Page 1": "In a box\n\nAlt"}
    assert sections(flat(page, form="odg")) == {"Page 1": "In a box\n\nAlt"}
    for form, ending in (("odt", "-template"), ("odt", "-master"), ("odt", "-web")):
        parts = {"mimetype": mimetype(form, ending) + b"\n", "content.xml": content(p("words"))}
        assert read(formats.zipped(parts)).text == "words\n\n"
    manifest = (
        '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"><manifest:file-entry '
        f'manifest:media-type="{mimetype("odt").decode()}" manifest:full-path="/"/></manifest:manifest>'
    )
    unnamed = formats.zipped({"META-INF/manifest.xml": manifest.encode(), "content.xml": content(p("words"))})
    assert (read(unnamed).text, read(unnamed).formats) == ("words\n\n", {"odt"})


def test_locked_files_say_so_and_damaged_ones_keep_what_can_be_read() -> None:
    manifest = (
        b"<manifest:manifest><manifest:file-entry><manifest:encryption-data/></manifest:file-entry></manifest:manifest>"
    )
    assert refused(package("", parts={"META-INF/manifest.xml": manifest})).reason == "encrypted"
    assert refused(formats.zipped({"mimetype": mimetype("odt"), "styles.xml": styles_part()})).reason == "no_text"
    broken = {"styles.xml": b"<office:document-styles", "Object 1/content.xml": b"<a><b>"}
    picture = '<draw:frame><draw:object xlink:href="./Object 1"/></draw:frame>'
    found = read(package(p("kept" + picture), parts=broken))
    assert found.text == "kept\n\n"
    assert [(one.what, one.where) for one in found.left_out] == [
        ("damaged", ("styles.xml",)),
        ("damaged", ("Object 1",)),
    ]
    for form, body in (("odt", p("one") + p("two")), ("ods", sheet(HEAD, HEAD))):
        whole = content(body, form=form)
        cut = whole[: whole.index(b"</text:p>") + 20]
        found = read(formats.zipped({"mimetype": mimetype(form), "content.xml": cut}))
        assert found.text.startswith(("one", "Item"))
        assert [one.what for one in found.left_out] == ["rest"]


def test_objects_that_hold_each_other_are_read_once() -> None:
    def inner(name: str, target: str) -> bytes:
        return content(p(f'{name}<draw:frame><draw:object xlink:href="../{target}"/></draw:frame>'))

    parts = {"Object 1/content.xml": inner("one", "Object 2"), "Object 2/content.xml": inner("two", "Object 1")}
    assert said(p('<draw:frame><draw:object xlink:href="Object 1"/></draw:frame>'), parts=parts) == "one\n\ntwo"
    outside = (
        '<draw:frame><draw:object xlink:href="file:///etc/passwd"/><draw:object xlink:href="../../x"/></draw:frame>'
    )
    assert [one.what for one in read(package(p("x" + outside))).left_out] == ["object", "object"]


ONE = "<text:list><text:list-item>"
NESTED = {
    "elements": "<x:a>" * 20_000,
    "paragraphs": "<text:p>x" * 20_000,
    "lists": f"{ONE}<text:p>x</text:p>" * 20_000,
    "tables": "<table:table><table:table-row><table:table-cell><text:p>x</text:p>" * 20_000,
    "comments": "<text:p>x<office:annotation>" * 20_000,
    "frames": "<draw:frame><draw:text-box><text:p>x" * 10_000,
    "formulas": "<math:math>" + "<math:mfrac><math:mi>x</math:mi>" * 20_000,
    "notes": "<text:p>x<text:note><text:note-body>" * 10_000,
}


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("form", ["odt", "ods", "odp"])
def test_what_is_nested_deeply_costs_little(name: str, form: str) -> None:
    data = package(p("before") + NESTED[name], form=form)  # and cut short
    began_at = time.monotonic()
    found = read(data)
    assert time.monotonic() - began_at < 20  # no more than a bound
    assert len(found.text) < 3_000_000
    assert "before" in found.text


def test_repeats_of_a_hostile_sheet_stay_small() -> None:
    wide, long = 'table:number-columns-repeated="16384"', 'table:number-rows-repeated="1048576"'
    full = row(cell(p("x"), wide), attributes=long)
    sparse = row(cell(attributes='table:number-columns-repeated="16383"'), cell(p("y")))
    found = read(package(sheet(full * 20, sparse * 500), form="ods"))
    assert found.text.count("y") == 500
    assert [one.what for one in found.left_out] == ["rest"]
    assert len(found.text) < 10_000_000
    table = read(package(sheet(full * 20, sparse * 500)))
    assert len(table.text) < 100_000_000


@pytest.mark.parametrize("form", ["odt", "odp"])
def test_no_more_is_read_than_a_text_may_have(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odf_walk, "MAX_TEXT_CHARS", 1_000)
    assert 1_000 < len(read(package(p("words ") * 20_000, form=form)).text) < 60_000
