"""What a PDF shows is read or said: words at line ends, forms, comments, scans, embedded files."""

import io
from collections.abc import Sequence

import pytest

import formats
from airweave_server.text import documents
from airweave_server.text.parts import Extracted, LeftOut, NoText, describe
from formats import pdf_stream

IMAGE = pdf_stream(
    b"\0" * 128 * 128, b"/Type/XObject/Subtype/Image/Width 128/Height 128/ColorSpace/DeviceGray/BitsPerComponent 8"
)
BOX = b"/Rect[150 695 300 715]"


def shown(*lines: str, left: int = 50, top: int = 700) -> bytes:
    """The content of a page with these lines, 20 points apart."""
    return b"".join(b"BT /F1 12 Tf %d %d Td (%s) Tj ET\n" % (left, top - 20 * n, line.encode("cp1252"))
                    for n, line in enumerate(lines))  # fmt: skip


def appearance(text: str) -> bytes:
    keys = b"/Type/XObject/Subtype/Form/BBox[0 0 150 20]/Resources<</Font<</F1 3 0 R>>>>"
    return pdf_stream(b"BT /F1 10 Tf 2 5 Td (%s) Tj ET" % text.encode(), keys)


def pdf(
    contents: Sequence[bytes],
    annotations: Sequence[bytes] = (),
    *,
    more: Sequence[bytes] = (),
    catalog: bytes = b"",
    is_form: bool = True,
) -> bytes:
    """A PDF of pages with these contents. The annotations are on the first one.

    ``more``: objects from number 10 on. ``/Im`` is an image, ``/F1`` is Helvetica.
    """
    first = 10 + len(more)
    fields = b" ".join(b"%d 0 R" % (first + n) for n in range(len(annotations)))
    start = first + len(annotations)
    kids = b" ".join(b"%d 0 R" % (start + 2 * n) for n in range(len(contents)))
    form = b"/AcroForm<</Fields[%s]/DA(/F1 12 Tf)/DR<</Font<</F1 3 0 R>>>>>>" % fields if is_form and fields else b""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R%s%s>>" % (form, catalog),
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, len(contents)),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
        IMAGE,
        *[b"null"] * 5,
        *more,
        *annotations,
    ]
    for number, content in enumerate(contents):
        annots = b"/Annots[%s]" % fields if number == 0 else b""
        objects += [
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents %d 0 R%s"
            b"/Resources<</Font<</F1 3 0 R>>/XObject<</Im 4 0 R>>>>>>" % (start + 2 * number + 1, annots),
            pdf_stream(content),
        ]
    return formats.raw_pdf(objects)


def image(width: int, height: int) -> bytes:
    return b"q %d 0 0 %d 10 10 cm /Im Do Q\n" % (width, height)


def read(data: bytes) -> Extracted:
    found = documents.read(io.BytesIO(data), filename="a.pdf")
    assert isinstance(found, Extracted), found
    return found


def text_with(*annotations: bytes, lines: Sequence[str] = ("Name:", "Next"), more: Sequence[bytes] = ()) -> str:
    found = read(pdf([shown(*lines)], annotations, more=more))
    assert not found.left_out
    return "\n".join(" ".join(line.split()) for line in found.text.strip().splitlines())


def widget(keys: bytes) -> bytes:
    return b"<</Type/Annot/Subtype/Widget/F 4%s%s>>" % (keys, b"" if b"/Rect" in keys else BOX)


def annotation(kind: str, keys: bytes) -> bytes:
    return b"<</Type/Annot/Subtype/%s/F 4%s%s>>" % (kind.encode(), keys, b"" if b"/Rect" in keys else BOX)


def test_a_hyphen_at_the_end_of_a_line_stays_with_an_identifier() -> None:
    found = read(pdf([shown("the part QX-", "7781 is for self-", "service and inter-", "national use")]))
    assert "the part QX-7781 is for self-service and international use" in found.text


def test_a_word_is_whole_across_pages() -> None:
    found = read(pdf([shown("the part QX-"), shown("7781 is new")]))
    assert found.text == "the part QX-7781\n\nis new\n\n"
    assert [section.label for section in found.sections] == ["Page 1", "Page 2"]


def test_a_text_field_stands_behind_its_caption() -> None:
    assert text_with(widget(b"/FT/Tx/T(a)/V(ACME 4711)")) == "Name: ACME 4711\nNext"


def test_a_field_stands_in_the_line_of_its_caption() -> None:
    first, second = widget(b"/FT/Tx/T(a)/V(ACME)"), widget(b"/FT/Tx/T(b)/V(Paris)/Rect[150 675 300 695]")
    assert text_with(first, second) == "Name: ACME\nNext Paris"
    beside = widget(b"/FT/Tx/T(a)/V(ACME)/Rect[120 690 300 712]")
    assert text_with(beside, lines=("Country", "Next")) == "Country ACME\nNext"


def test_a_field_inherits_its_type_and_value() -> None:
    parent = b"<</FT/Tx/T(p)/V(INHERITED)/Kids[11 0 R]>>"
    assert text_with(widget(b"/Parent 10 0 R"), more=[parent]) == "Name: INHERITED\nNext"


def test_a_field_without_a_caption_stands_below_the_text() -> None:
    assert text_with(widget(b"/FT/Tx/T(a)/V(ALONE)/Rect[300 50 400 70]")) == "Name:\nNext\nALONE"


def test_a_field_below_its_caption_belongs_to_it() -> None:
    found = text_with(widget(b"/FT/Tx/T(a)/V(BELOW)/Rect[50 670 200 690]"), lines=("Name",))
    assert found == "Name BELOW"


def test_what_a_field_shows_is_read_with_its_raw_value() -> None:
    keys = b"/FT/Tx/T(a)/V(1200.5)/AP<</N 10 0 R>>"
    assert text_with(widget(keys), more=[appearance("1,200.50 EUR")]) == "Name: 1,200.50 EUR (1200.5)\nNext"
    comb = b"/FT/Tx/T(a)/V(4711)/Ff 16777216/MaxLen 4/AP<</N 10 0 R>>"
    assert text_with(widget(comb), more=[appearance("4 7 1 1")]) == "Name: 4711\nNext"


def test_choices_are_read_as_they_are_shown() -> None:
    combo = b"/FT/Ch/Ff 131072/T(a)/V(de)/Opt[[(de)(Germany)][(fr)(France)]]"
    assert text_with(widget(combo)) == "Name: Germany\nNext"
    several = b"/FT/Ch/Ff 2097152/T(a)/V[(red)(blue)]/Opt[(red)(green)(blue)]"
    assert text_with(widget(several)) == "Name: red, blue\nNext"


def test_a_box_stands_before_its_caption_with_its_state() -> None:
    states = [b"<</N<</Yes 10 0 R/Off 10 0 R>>>>"] * 2
    boxes = [
        widget(b"/FT/Btn/T(%s)/V/%s/AS/%s/AP%s/Rect[30 %d 44 %d]" % (name, on, on, state, y, y + 14))
        for name, on, state, y in zip((b"a", b"b"), (b"Yes", b"Off"), states, (698, 678), strict=True)
    ]
    assert text_with(*boxes, lines=("Express", "Gift"), more=[appearance("")]) == "[x] Express\n[ ] Gift"


def test_a_password_and_a_hidden_field_are_not_read() -> None:
    secret = widget(b"/FT/Tx/Ff 8192/T(a)/V(SECRET)")
    hidden = b"<</Type/Annot/Subtype/Widget/F 2/FT/Tx/T(b)/V(SECRET)%s>>" % BOX
    comment = b"<</Type/Annot/Subtype/Text/F 2/Contents(SECRET)%s>>" % BOX
    unseen = widget(b"/FT/Tx/T(c)/V(SECRET)/Rect[0 0 0 0]")
    assert text_with(secret, hidden, comment, unseen) == "Name:\nNext"


def test_typed_text_and_stamps_are_read() -> None:
    assert text_with(annotation("FreeText", b"/Contents(TYPED ON IT)/DA(/F1 9 Tf)")) == "Name:\nNext\nTYPED ON IT"
    stamp = annotation("Stamp", b"/AP<</N 10 0 R>>")
    assert text_with(stamp, more=[appearance("APPROVED 4711")]) == "Name:\nNext\nAPPROVED 4711"


def test_a_button_and_a_signature_say_what_they_show() -> None:
    button = widget(b"/FT/Btn/Ff 65536/T(a)/AP<</N 10 0 R>>")
    assert text_with(button, more=[appearance("Send it")]) == "Name: Send it\nNext"
    signature = widget(b"/FT/Sig/T(a)/AP<</N 10 0 R>>/V<</Type/Sig/Name(Ann)>>")
    assert text_with(signature, more=[appearance("Signed by Ann Lee")]) == "Name: Signed by Ann Lee\nNext"


def test_comments_are_read_with_their_authors_and_once() -> None:
    note = annotation("Text", b"/T(Ann)/Contents(Is it\\rright?)/Popup 11 0 R")
    popup = annotation("Popup", b"/Parent 10 0 R/Contents(Is it right?)")
    reply = annotation("Text", b"/T(Bob)/IRT 10 0 R/Contents(Yes.)")
    said = "Name:\nNext\n[Comment by Ann: Is it\nright?]\n[Comment by Bob: Yes.]"
    assert text_with(note, popup, reply) == said
    assert text_with(annotation("Highlight", b"/Contents(Why?)")) == "Name:\nNext\n[Comment: Why?]"
    assert text_with(annotation("Highlight", b"/T(Ann)/Contents(Next)")) == "Name:\nNext"  # only what it marks


def test_the_address_of_a_link_without_words_is_read() -> None:
    link = b"/A<</S/URI/URI(https://x.org/4711)>>"
    assert text_with(annotation("Link", link)) == "Name:\nNext\nhttps://x.org/4711"
    assert text_with(annotation("Link", link + b"/Rect[50 695 90 715]")) == "Name:\nNext"
    assert text_with(annotation("Link", link), lines=("see x.org/", "4711")) == "see x.org/\n4711"
    script = annotation("Link", b"/A<</S/JavaScript/JS(app.alert\\(1\\))>>")
    assert text_with(script, annotation("Link", b"/A<</S/URI/URI(javascript:x)>>")) == "Name:\nNext"


def test_a_page_without_text_among_others_is_said() -> None:
    found = read(pdf([shown("words"), image(600, 800), shown("more words"), b""]))
    assert found.left_out == (LeftOut("page_without_text", ("page 2",)),)
    assert describe(found.left_out) == "page 2: no text layer"


def test_a_scan_with_the_mark_of_the_scanner_is_said() -> None:
    found = read(pdf([shown("words"), image(600, 700) + shown("Scanned by X")]))
    assert found.left_out == (LeftOut("page_without_text", ("page 2",)),)
    assert "Scanned by X" in found.text


def test_only_an_image_that_may_show_words_is_said() -> None:
    lines = shown(*["a line of text about the figure below"] * 5)
    assert read(pdf([lines + image(400, 300)])).left_out == (LeftOut("image", ("page 1",)),)
    assert not read(pdf([lines + image(60, 60)])).left_out


def test_a_scan_with_a_hidden_text_layer_is_read() -> None:
    hidden = b"3 Tr\n" + shown(*["what the scan says, read by a scanner"] * 3)
    found = read(pdf([image(600, 800) + hidden]))
    assert "what the scan says" in found.text
    assert [one.what for one in found.left_out] == ["image"]


def test_a_damaged_page_does_not_lose_the_others() -> None:
    data = pdf([shown("first"), shown("second"), shown("third")])
    place = data.index(b"/Type/Page/", data.index(b"/Type/Page/") + 1)
    found = read(data[:place] + b"/Tipe/Xxxx/" + data[place + 11 :])
    assert "first" in found.text
    assert "third" in found.text


def test_files_inside_are_read_once() -> None:
    file = pdf_stream(b"Name,Amount\napple,3\n", b"/Type/EmbeddedFile")
    spec = b"<</Type/Filespec/F(table.csv)/UF(table.csv)/EF<</F 10 0 R>>>>"
    names = b"/Names<</EmbeddedFiles<</Names[(table.csv)11 0 R]>>>>"
    pin = annotation("FileAttachment", b"/FS 11 0 R/Contents(The table)")
    found = read(pdf([shown("words")], [pin], more=[file, spec], catalog=names))
    assert found.text.count("Name: apple; Amount: 3") == 1
    assert [section.label for section in found.sections] == ["Page 1", "table.csv"]
    only = read(pdf([b""], more=[file, spec], catalog=names))
    assert only.text == "Name: apple; Amount: 3\n\n"


def test_a_form_that_only_some_viewers_show_is_said() -> None:
    form = b"/AcroForm<</Fields[]/XFA 10 0 R>>/NeedsRendering true"
    found = read(pdf([shown("Please wait")], more=[pdf_stream(b"<xdp/>")], catalog=form))
    assert [one.what for one in found.left_out] == ["object"]
    alone = documents.read(io.BytesIO(pdf([b""], more=[pdf_stream(b"<xdp/>")], catalog=form)), filename="a.pdf")
    assert isinstance(alone, NoText)
    assert alone.reason == "no_text: an XFA form, which only some viewers show"


def test_forms_of_letters_become_letters() -> None:
    assert "a fig on a floor" in read(formats.pdf([["a fig on a floor"]])).text
    cmap = (
        b"/CIDInit/ProcSet findresource begin begincmap 1 begincodespacerange<00><ff>endcodespacerange "
        b"2 beginbfchar<41><FB01><42><FEE0>endbfchar endcmap end"
    )
    font = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 10 0 R>>"
    data = pdf([shown("A x")], more=[pdf_stream(cmap)])
    data = data.replace(b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>", font)
    assert read(data).text.strip() == "fi x"


def in_arabic(line: str) -> str:
    """How a line is read whose letters a, b, c and d are drawn as seen, lam with alef, meem and noon."""
    cmap = (
        b"/CIDInit/ProcSet findresource begin begincmap 1 begincodespacerange<00><ff>endcodespacerange "
        b"4 beginbfchar<61><0633><62><06440627><63><0645><64><0646>endbfchar endcmap end"
    )
    font = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding"
    data = pdf([shown(line)], more=[pdf_stream(cmap)]).replace(font, font + b"/ToUnicode 10 0 R")
    return read(data).text.strip()


def test_text_from_right_to_left_is_read_in_its_order() -> None:
    assert in_arabic("cba") == "\u0633\u0644\u0627\u0645"  # salam, with its ligature
    assert in_arabic("cba dba") == "\u0633\u0644\u0627\u0646 \u0633\u0644\u0627\u0645"
    for identifier in ("QX-7781", "7781-QX", "PO/4711.B", "A.B@X.ORG"):
        words = in_arabic(f"cba {identifier} dba").split()
        assert sorted(words) == sorted(["\u0633\u0644\u0627\u0645", "\u0633\u0644\u0627\u0646", identifier])


def test_words_have_spaces_where_there_are_gaps() -> None:
    line = b"BT /F1 10 Tf 50 %d Td (read file) Tj 3.2 Tc 35.6 0 Td (,t) Tj 0 Tc 8.8 0 Td (he rest) Tj ET\n"
    wide = b"BT /F1 10 Tf 3.2 Tc 50 660 Td (WIDE) Tj ET\n"
    found = read(pdf([line % 700 + line % 680 + wide + shown("a.b,c", top=600)]))
    assert found.text.split("\n")[:4] == ["read file, the rest", "read file, the rest", "WIDE", "a.b,c"]
    torn = b" ".join(
        b"[(%c)-110(%c)-110(n)-110(g)-110(a)-110(p)-110(o)-110(r)-180(e)-300( )]TJ" % (a, a) for a in b"ST" * 12
    )
    words = read(pdf([b"BT /F1 9 Tf 20 700 Td " + torn + b" ET"])).text.split()
    assert words == ["SSngapore", "TTngapore"] * 12


def test_accents_that_are_drawn_over_their_letters_are_one_with_them() -> None:
    """As TeX draws them: the accent, back, and the letter; a cedilla after its letter."""
    line = b"BT /F1 10 Tf 50 700 Td (Universit) Tj [(\\250)445(at, na)] TJ [(\\250)320(ive)] TJ ET\n"
    cedilla = b"BT /F1 10 Tf 50 660 Td [(gar)-1(c)400(\\270)-110(on)] TJ ET\n"
    apart = b"BT /F1 10 Tf 50 640 Td (l\\264eau, it\\264s) Tj ET\n"
    found = read(pdf([line + cedilla + apart])).text.split("\n")
    assert found[:3] == ["Universit\u00e4t, na\u00efve", "gar\u00e7on", "l\u00b4eau, it\u00b4s"]
    many = read(pdf([b"".join(line.replace(b"700", b"%d" % top) for top in range(700, 100, -12))]))
    assert many.text.count("Universit\u00e4t") == 50
    assert not many.left_out  # no letter is lost with its accent


def test_letters_with_their_bytes_in_the_wrong_order_are_mended() -> None:
    cmap = (
        b"/CIDInit/ProcSet findresource begin begincmap 1 begincodespacerange<00><ff>endcodespacerange "
        b"4 beginbfchar<61><6100><62><6200><63><6300><64><6400>endbfchar endcmap end"
    )
    font = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding"
    data = pdf([shown("abcd dcba")], more=[pdf_stream(cmap)]).replace(font, font + b"/ToUnicode 10 0 R")
    assert read(data).text.strip() == "abcd dcba"
    # Without spaces, and of letters whose width the file does not tell rightly, the gaps that show say it.
    wide = font + b"/FirstChar 97/LastChar 100/Widths[1000 1000 1000 1000]/ToUnicode 10 0 R"
    line = b"BT /F1 12 Tf 50 700 Td [(a)450(b)450(c)450(d)-50(d)450(c)450(b)450(a)] TJ ET\n"
    data = pdf([line], more=[pdf_stream(cmap)]).replace(font, wide)
    assert read(data).text.strip() == "abcd dcba"


def test_a_page_whose_fonts_do_not_tell_the_characters_is_said() -> None:
    keys = b"<</Type/Font/Subtype/Type0/BaseFont/X/Encoding/Identity-H/DescendantFonts[11 0 R]>>"
    cid = (
        b"<</Type/Font/Subtype/CIDFontType2/BaseFont/X/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)"
        b"/Supplement 0>>/FontDescriptor<</Type/FontDescriptor/FontName/X/Flags 4>>>>"
    )
    odd = b"BT /F2 12 Tf 50 600 Td <002400250026002700280029> Tj ET"
    data = pdf([shown("words"), odd], more=[keys, cid]).replace(
        b"/F1 3 0 R>>/XObject", b"/F1 3 0 R/F2 10 0 R>>/XObject"
    )
    found = read(data)
    assert found.text.strip() == "words"
    assert [(one.what, one.where) for one in found.left_out] == [("page_without_text", ("page 2",))]


@pytest.mark.parametrize("password", ["", "owner only"])
def test_a_file_that_opens_without_a_password_is_read(password: str) -> None:
    assert "open words" in read(formats.pdf([["open words"]])).text


def test_a_scan_alone_has_no_text() -> None:
    found = documents.read(io.BytesIO(pdf([image(600, 800)])), filename="a.pdf")
    assert isinstance(found, NoText)
    assert found.reason == "no_text_layer"


def test_hostile_annotations_are_bounded() -> None:
    found = read(pdf([shown("words")], [annotation("Text", b"/Contents(x)")] * 2_010))
    assert [one.what for one in found.left_out] == ["rest"]
    cycle = b"<</FT/Tx/Parent 11 0 R/Kids[10 0 R]/T(a)>>"
    assert "words" in read(pdf([shown("words")], [widget(b"/Parent 10 0 R")], more=[cycle, cycle])).text
