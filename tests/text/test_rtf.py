"""RTF is read completely and in the right characters. The documents are written out as RTF in the tests."""

import io
import struct
import time
from contextlib import suppress

import pytest

from airweave_server.text import documents, mapi, rtf, rtf_html
from airweave_server.text.parts import Extracted, LeftOut, Text, Unparseable


def read(body: str, *, fonts: str = r"{\f0\fcharset0 Arial;}", head: str = r"\ansi\ansicpg1252\deff0") -> str:
    return read_bytes(rf"{{\rtf1{head}{{\fonttbl{fonts}}}\f0 {body}}}".encode("latin-1"))


def read_bytes(data: bytes) -> str:
    return "\n".join(part.text for part in rtf.read(io.BytesIO(data)) if isinstance(part, Text))


def left_out(body: str) -> list[LeftOut]:
    return [part for part in rtf.read(io.BytesIO(rf"{{\rtf1 {body}}}".encode())) if isinstance(part, LeftOut)]


@pytest.mark.parametrize(
    ("charset", "encoding", "said"),
    [
        (204, "cp1251", "Привет"),
        (161, "cp1253", "Καλημέρα"),
        (238, "cp1250", "Žluťoučký"),
        (162, "cp1254", "İstanbul"),
        (186, "cp1257", "Ąžuolas"),
        (177, "cp1255", "שלום"),
        (178, "cp1256", "مرحبا"),
        (222, "cp874", "สวัสดี"),
        (128, "cp932", "日本語ソ表"),
        (129, "cp949", "한국어"),
        (134, "gbk", "汉语"),
        (136, "cp950", "漢語功"),
        (77, "mac_roman", "naïve"),
        (255, "cp850", "Straße"),
    ],
)
def test_the_charset_of_the_font_decodes_its_bytes(charset: int, encoding: str, said: str) -> None:
    escaped = "".join(rf"\'{byte:02x}" for byte in said.encode(encoding))
    # of a two-byte character, only the bytes above 0x7F need an escape
    mixed = "".join(chr(b) if chr(b).isalnum() and b < 0x80 else rf"\'{b:02x}" for b in said.encode(encoding))
    fonts = rf"{{\f0\fcharset0 Arial;}}{{\f7\fnil\fcharset{charset}{{\*\panose 020b}}Some {{\*\falt Other}};}}"
    assert read(rf"Caf\'e9 {{\f7 {escaped}}} caf\'e9 \f7 {mixed}\plain  caf\'e9", fonts=fonts) == (
        f"Café {said} café {said} café"
    )


def test_a_font_without_a_charset_has_that_of_the_document() -> None:
    assert read(r"\'cf\'f0\'e8", fonts=r"{\f0 Arial;}", head=r"\ansi\ansicpg1251\deff0") == "При"
    assert read(r"\'8e\'c4", fonts=r"{\f0 Arial;}", head=r"\mac\deff0") == "éƒ"
    assert read(r"\'82", fonts=r"{\f0 Arial;}", head=r"\pc") == "é"
    assert read(r"\'cf\'f0\'e8", fonts=r"\f0\fnil\cpg1251 Arial;") == "При"
    assert read_bytes(rb"{\rtf1\ansi\ansicpg1252\deff1{\fonttbl{\f0 A;}{\f1\fcharset204 B;}}\'cf\'f0\'e8}") == "При"


def test_letters_of_the_symbol_font_are_greek_and_its_signs_are_signs() -> None:
    fonts = r"{\f0\fcharset0 Arial;}{\f1\fcharset2 Symbol;}{\f2\fcharset2 Wingdings;}"
    assert read(r"{\f1 abg} {\f1\u-3999 ?} {\f1\'a3} {\f2\'fc}", fonts=fonts) == "αβγ α ≤ ✓"


def test_unicode_replaces_as_many_characters_as_its_group_says() -> None:
    assert read(r"\u8364?99 {\uc2\u26481\'93\'8c\u20140\'8b\'9e} \uc0\u233 t\u233 ") == "€99 東京 été"
    assert read(r"\u-10179?\u-8704? end") == "😀 end"
    assert read(r"{\u8226\bullet }{\u8211\endash} x\u8217\'92s {\u246}oe") == "•– x’s öoe"
    assert read(r"{\upr{ma?ana}{\*\ud{ma\u241\'f1ana}}} tail") == "mañana tail"


def test_characters_of_their_own_survive() -> None:
    assert read(r"a\tab b\line c\_d\~e\-f \{x\} \\y \emdash\endash\lquote q\rquote\ldblquote q\rdblquote\bullet") == (
        "a b\nc-d ef {x} \\y —–‘q’“q”•"
    )
    assert (
        read(r"QX\_7781 Map<String,Widget> a_b *c* &amp; x\zwnj y")
        == "QX-7781 Map<String,Widget> a_b *c* &amp; x\u200cy"
    )
    assert read("one \r\ntwo\\\nthree\\par\r\nfour") == "one two\n\nthree\n\nfour"


def test_a_table_keeps_its_rows_cells_and_the_tables_in_them() -> None:
    row = r"\trowd\cellx1000\cellx2000 "
    assert (
        read(
            r"Before\par"
            + row
            + r"\intbl A|1\par A2\cell B\cell\row"
            + row
            + r"C\cell {\listtext\'95\tab}item\par more\cell\row"
            r"\pard After\par"
        )
        == "Before\n\n| A\\|1 A2 | B |\n| C | - item more |\n\nAfter"
    )
    nested = (
        r"\trowd\cellx2000\pard\intbl Outer\par\pard\intbl\itap2 In1\nestcell{\nonesttables\par}In2\nestcell"
        r"{\*\nesttableprops\trowd\cellx1\cellx2\nestrow}{\nonesttables\par}\pard\intbl\itap1 Last\cell\row\pard End"
    )
    assert read(nested) == "| Outer In1, In2 Last |\n\nEnd"


def test_notes_and_comments_follow_their_paragraph() -> None:
    said = read(
        r"One{\super\chftn{\footnote\pard\plain\chftn First.\par}} two{\chftn{\footnote\ftnalt\chftn Ended.}}.\par"
        r"{\*\atrfstart 1}Three{\*\atrfend 1}{\*\atnid AL}{\*\atnauthor Ann Lee}\chatn"
        r"{\*\annotation{\*\atndate 99}{\*\atnref 1}\chatn Is it so?} four{\footnote Second.}.\par"
        r"\trowd\cellx1\intbl in{\footnote Of a cell.} cell\cell\row\pard Last."
    )
    assert said == (
        "One[^1] two[^e1].\n\n[^1]: First.\n\n[^e1]: Ended.\n\nThree four[^2].\n\n[Comment by Ann Lee: Is it so?]\n\n"
        "[^2]: Second.\n\n| in[^3] cell |\n\n[^3]: Of a cell.\n\nLast."
    )


def test_a_header_is_read_once() -> None:
    section = r"{\header\pard Acme\par}{\headerf Acme}{\footer page {\field{\*\fldinst PAGE}{\fldrslt 1}}}"
    assert read(rf"{section}Words\sect{section}More") == "Acme\n\nWords\n\nMore\n\npage 1"


def test_a_box_is_read_once_beside_the_text_of_its_paragraph() -> None:
    box = (
        r"{\shp{\*\shpinst\shpleft0{\sp{\sn shapeType}{\sv 202}}{\shptxt\pard In a box\par}}"
        r"{\shprslt{\*\do\dptxbx{\dptxbxtext In a box\par}}}}"
    )
    assert read(rf"Left {box}right.\par") == "Left right.\n\nIn a box"
    assert read(r"Left {\*\do\dobxpage\dptxbx{\dptxbxtext\pard Old box\par}\dpx1}right.") == "Left right.\n\nOld box"
    art = r"{\shp{\*\shpinst{\sp{\sn gtextUNICODE}{\sv Word art}}{\sp{\sn gtextFont}{\sv Impact}}}}"
    assert read(rf"Left {art}right.") == "Left right.\n\nWord art"
    group = rf"{{\shpgrp{{\*\shpinst{{\sp{{\sn groupLeft}}{{\sv 1}}}}{box}{box.replace('In', 'On')}}}}}"
    assert read(f"Left {group}") == "Left\n\nIn a box\n\nOn a box"


def test_a_field_shows_its_result_or_what_its_instruction_holds() -> None:
    assert read(r'{\field{\*\fldinst{HYPERLINK "http://x.org/a"}}{\fldrslt{\ul here}}} x') == "here x"
    inner = r"{\field{\*\fldinst IF {\field{\*\fldinst PAGE}{\fldrslt 7}} = 7}{\fldrslt yes}}"
    assert read(inner) == "yes"
    assert read(r"{\field{\*\fldinst SYMBOL 97 \\f \"Symbol\" \\s 10}{\fldrslt}}") == "α"
    assert read(r"{\field{\*\fldinst MACROBUTTON NoMacro [Type here]}}") == "[Type here]"
    assert read(r"x{\field{\*\fldinst GOTOBUTTON  \\* MERGEFORMAT}}") == "x"
    assert read(r"{\field{\*\fldinst EQ \\* jc2 \\o\\ad(\\s\\up 9(kana),KANJI)}}") == "kana KANJI"
    form = r"{\*\formfield{\fftype2\ffres%d\ffdefres1{\*\ffname N}{\*\ffl red}{\*\ffl green}{\*\ffl blue}}}"
    assert read(rf"It is {{\field{{\*\fldinst FORMDROPDOWN {form % 2}}}{{\fldrslt}}}}.") == "It is blue."
    assert read(rf"It is {{\field{{\*\fldinst FORMDROPDOWN {form % 25}}}{{\fldrslt}}}}.") == "It is green."


def test_tracked_changes_leave_the_final_text_and_hidden_text_is_read() -> None:
    assert read(r"a {\deleted gone\par }{\revised came}{\v  hid}{\mvf moved }{\mvt  moved}\deleted x\plain  z") == (
        "a came hid moved z"
    )


def test_list_items_keep_their_numbers_as_shown() -> None:
    assert (
        read(
            r"{\listtext\pard\plain 1.\tab}\ls1 One\par{\listtext 1.1\tab}\ilvl1 Below\par\pard"
            r"{\pntext\f1\'b7\tab}Dot\par\pard{\listtext\f0 o\tab}Ring\par\pard Text"
        )
        == "1. One\n  1.1 Below\n- Dot\n- Ring\n\nText"
    )


def test_headings_are_told_by_outline_or_style() -> None:
    styles = r"{\stylesheet{Normal;}{\s3\b heading 3;}{\s9\outlinelevel0 Kapitel;}{\*\cs3 Strong;}{\s5 Title;}}"
    assert (
        read(
            rf"{styles}\pard\s3 Third\par\pard\s9 First\par\pard\outlinelevel1{{\listtext 2.1\tab}}Second\par"
            r"\pard\s5 The title\par\pard\cs3 Text\par"
        )
        == "### Third\n\n# First\n\n## 2.1 Second\n\n# The title\n\nText"
    )


def test_formulas_stand_in_their_sentence() -> None:
    fraction = r"{\mf{\mfPr{\mtype bar}}{\mnum{\mr\mscr0 ab}}{\mden{\mr 2}}}"
    power = r"{\msSup{\me{\mr x}}{\msup{\mr 2}}}"
    total = r"{\mnary{\mnaryPr{\mchr \u8721?}{\mlimLoc undOvr}}{\msub{\mr i=1}}{\msup{\mr n}}{\me{\mr i}}}"
    braced = r"{\md{\mdPr{\mbegChr [}{\mendChr ]}{\mctrlPr}}{\me{\mr u}}{\me{\mr v}}}"
    root = r"{\mrad{\mradPr{\mdegHide 1}}{\mdeg}{\me{\mr y}}}"
    parts = "{\\mr +}".join([fraction, power, total, braced, root])
    assert read(rf"Let {{\mmath{{\*\moMathPara{{\*\moMath {parts}}}}}{{\*\mmathPict{{\pict 00}}}}}} be.") == (
        "Let (ab)/2+x^2+∑_(i=1)^ni+[u, v]+√y be."
    )


def embedded(kind: bytes, native: bytes) -> str:
    name = struct.pack("<I", len(kind) + 1) + kind + b"\0"
    data = struct.pack("<II", 0x501, 2) + name + bytes(8) + struct.pack("<I", len(native)) + native
    return data.hex()


def test_an_embedded_document_is_read_and_another_object_is_said() -> None:
    file = b"\2\0note.txt\0C:\\note.txt\0\0\0\3\0\x0c\0\0\0C:\\note.txt\0\0" + struct.pack("<I", 13) + b"PACKAGEDWORDS"
    shown = r"{\result{\pard Shown\par}{\pict\pngblip 00}}"
    body = rf"A {{\object\objemb{{\*\objclass Package}}{{\*\objdata {embedded(b'Package', file)}}}{shown}}} z"
    found = documents.read(io.BytesIO(rf"{{\rtf1 {body}}}".encode()), filename="a.rtf")
    assert isinstance(found, Extracted)
    assert [section.label for section in found.sections] == ["", "note.txt"]
    assert "A Shown" in found.text
    assert "PACKAGEDWORDS" in found.text
    assert found.left_out == ()
    paint = rf"{{\object\objemb{{\*\objclass PBrush}}{{\*\objdata {embedded(b'PBrush', b'BM')}}}{{\result x}}}}"
    assert left_out(paint) == [LeftOut("object", ("PBrush",))]
    equation = rf"{{\object\objemb{{\*\objclass Equation.3}}{{\*\objdata {embedded(b'Equation.3', b'..')}}}}}"
    assert left_out(equation) == [LeftOut("formula")]


def test_pictures_are_counted_once_and_their_bytes_are_no_text() -> None:
    picture = r"{\*\shppict{\pict{\*\picprop{\sp{\sn a}{\sv b}}}\pngblip 89504e}}{\nonshppict{\pict\wmetafile8 0100}}"
    raw = r"{\pict\wmetafile8\bin6 }}{{\x}"
    assert left_out(f"a {picture} b {raw} c") == [LeftOut("image", count=2)]
    assert read(f"a {picture}b {raw}c") == "a b c"


def test_what_describes_the_document_is_no_text() -> None:
    assert (
        read(
            r"{\colortbl;\red0;}{\info{\title Secret}{\author Ann}}{\*\generator Some 1.0;}{\*\listtable{\list x}}"
            r"{\*\unknown{\*\more words}words}{\*\bkmkstart mark}Text{\xe{\v index}}{\tc entry}{\*\bkmkend mark}"
        )
        == "Text"
    )
    assert read(r"{\unknownword kept} \otherword1 text") == "kept text"


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\r\n  "])
@pytest.mark.parametrize("name", ["a.rtf", "a.doc", "a"])
def test_it_is_recognized_by_its_content(before: bytes, name: str) -> None:
    found = documents.read(io.BytesIO(before + rb"{\rtf1\ansi caf\'e9}"), filename=name)
    assert isinstance(found, Extracted)
    assert found.text.strip() == "café"
    assert found.formats == {"rtf"}


def test_bytes_that_are_utf_8_are_read_as_such() -> None:
    assert read_bytes("{\\rtf1\\ansi\\ansicpg1252 café Привет \\'e9}".encode()) == "café Привет é"
    assert read_bytes(b"{\\rtf1\\ansi\\ansicpg1252 caf\xe9}") == "café"


def test_a_page_of_html_in_it_is_taken_out_of_it() -> None:
    mail = (
        rb"{\rtf1\ansi\ansicpg1251\fromhtml1\deff0{\fonttbl{\f0\fswiss\fcharset204 Arial;}}{\*\htmltag19 <html>}"
        rb"{\*\htmltag64 <p>}\htmlrtf{\pntext twice}{\htmlrtf0\f0\fs20 \'cf\'f0\'e8 "
        rb"{\*\htmltag84 &lt;}\htmlrtf <\htmlrtf0 x"
        rb"{\*\htmltag84 &nbsp;}\htmlrtf\~\htmlrtf0 y\htmlrtf\par}\htmlrtf0{\*\htmltag72 </p>}{\*\mhtmltag a}\par z}"
    )
    assert rtf_html.has_html(mail)
    assert rtf_html.to_html(mail) == "<html><p>При &lt;x&nbsp;y</p>\r\nz"
    assert read_bytes(mail) == "При <x y\n\nz"


def test_compressed_text_of_outlook_is_unpacked() -> None:
    # the first example of MS-OXRTFCP, 4.1
    packed = bytes.fromhex(
        "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
    )
    assert mapi.decompress(packed) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"
    plain = struct.pack("<II4sI", 12 + 9, 9, b"MELA", 0) + b"{\\rtf1 a}"
    assert mapi.decompress(plain) == b"{\\rtf1 a}"
    assert mapi.decompress(b"something else that is longer") == b""


@pytest.mark.parametrize(
    "data",
    [
        b"{\\rtf1 " + b"{" * 400_000 + b"deep",
        b"{\\rtf1 " + b"{\\footnote " * 60_000 + b"deep",
        b"{\\rtf1 " + b"{\\field{\\fldinst " * 40_000 + b"deep",
        b"{\\rtf1 " + b"\\trowd\\intbl\\itap99999\\nestcell " * 20_000,
        b"{\\rtf1 words\\bin99999999999 " + b"x" * 100_000,
        b"{\\rtf1 \\pict" + b"{\\pict\\bin-5 }" * 100_000,
        b"{\\rtf1 " + b"{\\moMath{\\mf{\\mnum " * 40_000,
        b"{\\rtf1 " + b"{\\shp{\\shpinst{\\shptxt " * 40_000 + b"deep",
        b"{\\rtf1{\\fonttbl" + b"{\\f1\\fcharset2 x" * 60_000,
        b"{\\rtf1 " + b"\\'e9" * 200_000 + b"\\",
        b"{\\rtf1 " + b"\\u-10179?" * 100_000,
    ],
)
def test_hostile_bytes_take_linear_time(data: bytes) -> None:
    started = time.process_time()
    with suppress(Unparseable):  # no text, and cut short
        read_bytes(data)
    assert time.process_time() - started < 10


def test_a_document_cut_short_keeps_what_came_before_and_says_so() -> None:
    whole = rb"{\rtf1\ansi First\par {\footnote Note}Second {\field{\*\fldinst X}{\fldrslt Third}}}"
    for end in range(whole.index(b"First") + 5, len(whole)):
        assert read_bytes(whole[:end]).startswith("First")
    assert read_bytes(whole[:-3]) == "First\n\n[^1]Second Third\n\n[^1]: Note"
    assert [part.what for part in rtf.read(io.BytesIO(whole)) if isinstance(part, LeftOut)] == []
    assert [part.what for part in rtf.read(io.BytesIO(whole[:-3])) if isinstance(part, LeftOut)] == ["rest"]


def test_hidden_text_stands_apart_from_the_words_beside_it() -> None:
    data = rb"{\rtf1 QX-7781{\v SECRET}end \v a\v0 b\v c\plain d{\stylesheet{\s1\v heading 1;}}}"
    (part,) = rtf.read(io.BytesIO(data))
    assert isinstance(part, Text)
    assert part.text.split() == ["QX-7781", "SECRET", "end", "a", "b", "c", "d"]
