"""The count of the documents inside a document: it finds those that no reader met, and is silent where all were."""

import io
import tarfile
from collections.abc import Callable
from email.message import EmailMessage

import pytest

import formats
from airweave_server.text import documents
from airweave_server.text.completeness_archives import TarHeads
from airweave_server.text.completeness_held import Opened
from airweave_server.text.completeness_members import Met, missing_members
from airweave_server.text.parts import COMPLETE, Extracted, LeftOut, Member

NAMES = ["first.csv", "second note.txt", "the third.docx"]
ATTACHED = {"first.csv": b"Name,Amount\napple,3\n", "second note.txt": b"pears", "the third.docx": formats.word()}


def mail_file() -> bytes:
    return formats.email(attached=ATTACHED)


def mailbox_file() -> bytes:
    line = b"From ann@x.org Thu Jan  4 10:00:00 2024\n"
    two = formats.email(attached={name: ATTACHED[name] for name in NAMES[:2]})
    return line + two + b"\n" + line + formats.email(attached={NAMES[2]: ATTACHED[NAMES[2]]})


def apple_file() -> bytes:
    data = mail_file()
    return f"{len(data)}\n".encode() + data + b"<?xml version='1.0'?><plist/>"


def outlook_file() -> bytes:
    """Two files, and one that is attached to a message inside."""
    inner = "__attach_version1.0_#00000002/__substg1.0_3701000D"
    places = [f"__attach_version1.0_#0000000{number}" for number in (0, 1)] + [f"{inner}/__attach_version1.0_#00000000"]
    streams = {
        "__properties_version1.0": bytes(32),
        "__substg1.0_0037001F": "Talk".encode("utf-16-le"),
        f"{inner}/__properties_version1.0": bytes(24),
        f"{inner}/__substg1.0_1000001F": "What was said before.".encode("utf-16-le"),
    }
    for place, name in zip(places, NAMES, strict=True):
        streams[f"{place}/__substg1.0_3707001F"] = name.encode("utf-16-le")
        streams[f"{place}/__substg1.0_37010102"] = ATTACHED[name]
    return formats.compound(streams)


def winmail_file() -> bytes:
    attributes = [(1, 0x00069007, bytes.fromhex("e404000000000000"))]
    for name, data in ATTACHED.items():
        attributes += [(2, 0x00069002, bytes(14)), (2, 0x00018010, name.encode() + b"\0"), (2, 0x0006800F, data)]
    return formats.tnef(*attributes)


def word_file() -> bytes:
    words = "urn:schemas-microsoft-com:office:office"
    objects = "".join(
        f'<w:p><w:r><w:object><o:OLEObject xmlns:o="{words}" ProgID="Word" r:id="rId{number}"/></w:object></w:r></w:p>'
        for number in (1, 2, 3)
    )
    return _package(objects, NAMES)


def _package(body: str, embedded: list[str]) -> bytes:
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    head = f'<w:document xmlns:w="{word}" xmlns:r="{formats.RELATIONSHIPS}"><w:body>{body}'
    return formats.zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": formats.relations([("officeDocument", "word/document.xml")]),
            "word/document.xml": f"{head}<w:p><w:r><w:t>text</w:t></w:r></w:p></w:body></w:document>",
            "word/_rels/document.xml.rels": formats.relations([("package", f"embeddings/{name}") for name in embedded]),
            **{f"word/embeddings/{name}": ATTACHED[name] for name in embedded},
        }
    )


def open_text_file() -> bytes:
    spaces = (
        'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" '
        'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'
    )
    frames = "".join(f'<draw:frame><draw:object-ole xlink:href="./{name}"/></draw:frame>' for name in NAMES)
    body = f"<office:body><office:text><text:p>text{frames}</text:p></office:text></office:body>"
    content = f"<office:document-content {spaces}>{body}</office:document-content>"
    mime = "application/vnd.oasis.opendocument.text"
    return formats.zipped({"mimetype": mime, "content.xml": content, **ATTACHED})


def zip_file() -> bytes:
    return formats.zipped(ATTACHED)


def tar_file() -> bytes:
    return formats.tarred(ATTACHED)


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a.eml": (mail_file, "email"),
    "a.mbox": (mailbox_file, "mbox"),
    "a.emlx": (apple_file, "email"),
    "a.msg": (outlook_file, "msg"),
    "winmail.dat": (winmail_file, "tnef"),
    "a.docx": (word_file, "docx"),
    "a.odt": (open_text_file, "odt"),
    "a.zip": (zip_file, "zip"),
    "a.tar": (tar_file, "tar"),
}


def unmet(data: bytes, form: str, names: list[str], *, read: str = "") -> LeftOut | None:
    opened = Opened()
    opened.tar.take(data)
    return missing_members(io.BytesIO(data), form, Met(names), read, opened=opened)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("lost", [[0], [1], [0, 2], [0, 1, 2]])
def test_a_document_inside_that_the_reader_drops_is_said_with_its_name(name: str, lost: list[int]) -> None:
    make, form = FILES[name]
    assert unmet(make(), form, NAMES) is None
    kept = [one for number, one in enumerate(NAMES) if number not in lost]
    assert unmet(make(), form, kept) == LeftOut("documents", tuple(NAMES[number] for number in lost), len(lost))


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_said_where_all_were_met(name: str) -> None:
    found = documents.read(io.BytesIO(FILES[name][0]()), filename=name)
    assert isinstance(found, Extracted)
    assert found.left_out == ()
    assert {"pears", "apple"} <= set(found.text.replace(";", " ").split())


@pytest.mark.parametrize("name", formats.FORMATS)
def test_nothing_is_said_of_documents_of_any_format_that_are_whole(name: str) -> None:
    found = documents.read(io.BytesIO(formats.FORMATS[name][0]()), filename=name)
    assert isinstance(found, Extracted)
    assert [one for one in found.left_out if one.what == "documents"] == []


def test_files_of_a_tar_behind_a_damaged_header_are_said() -> None:
    """The library ends there without a word. An archive in an archive says where it is."""
    data = bytearray(tar_file())
    at = data.index(b"second note.txt")
    data[at] = ord("x")  # so that its checksum is wrong
    found = documents.read(io.BytesIO(bytes(data)), filename="a.tar")
    assert isinstance(found, Extracted)
    assert found.left_out == (LeftOut("documents", ("the third.docx",)),)
    outer = formats.zipped({"in/a.tar": bytes(data)})
    found = documents.read(io.BytesIO(outer), filename="a.zip")
    assert isinstance(found, Extracted)
    assert found.left_out == (LeftOut("documents", ("in/a.tar > the third.docx",)),)
    assert "documents" not in COMPLETE


@pytest.mark.parametrize(("make", "form"), [(formats.zipped, "zip"), (formats.tarred, "tar")])
def test_files_of_one_name_in_folders_are_told_apart(make: Callable[[dict[str, bytes]], bytes], form: str) -> None:
    data = make({"a/x.txt": b"one", "b/x.txt": b"two"})
    assert unmet(data, form, ["a/x.txt", "b/x.txt"]) is None
    assert unmet(data, form, ["b/x.txt"]) == LeftOut("documents", ("a/x.txt",))


def test_an_embedded_document_that_the_text_does_not_show_is_said() -> None:
    found = documents.read(io.BytesIO(_package("", NAMES[:1])), filename="a.docx")
    assert isinstance(found, Extracted)
    assert found.left_out == (LeftOut("documents", ("first.csv",)),)


def test_workbooks_of_charts_are_no_documents_of_their_own() -> None:
    data = formats.zipped(
        {
            "word/document.xml": "<w/>",
            "word/charts/_rels/chart1.xml.rels": formats.relations([("package", "../embeddings/first.xlsx")]),
            "word/_rels/document.xml.rels": formats.relations([("package", "../gone.xlsx"), ("image", "a.png")]),
            "word/embeddings/first.xlsx": b"",
            "word/a.png": b"",
        }
    )
    assert unmet(data, "docx", []) is None


def test_objects_of_older_formats_are_counted() -> None:
    streams = {"WordDocument": b"w", "ObjectPool/_1/CONTENTS": b"%PDF-", "ObjectPool/_2/Package": b"PK", "Data": b"d"}
    assert unmet(formats.compound(streams), "doc", ["object", ""]) is None
    assert unmet(formats.compound(streams), "doc", [""]) == LeftOut("documents", (), 1)
    streams = {"Workbook": b"w", "MBD0001/CONTENTS": b"%PDF-", "MBD0002/Package": b"PK", "_VBA_PROJECT_CUR/dir": b"d"}
    assert unmet(formats.compound(streams), "xls", ["MBD0001", "MBD0002"]) is None
    assert unmet(formats.compound(streams), "xls", ["MBD0001"]) == LeftOut("documents", ("MBD0002",))
    data = b"{\\object\\objemb{\\*\\objdata 0105000002000000\n0b00}{\\result x}}"
    assert unmet(b"{\\rtf1 " + data * 2 + b"}", "rtf", ["Word", "object"]) is None
    assert unmet(b"{\\rtf1 " + data * 2 + b"}", "rtf", ["Word"]) == LeftOut("documents", (), 1)


def test_names_that_are_written_otherwise_are_counted() -> None:
    """Then it is not known which are missing."""
    assert unmet(mail_file(), "email", ["f?rst.csv", "second_note", "3rd.docx"]) is None
    assert unmet(mail_file(), "email", ["First.CSV", "3rd.docx"]) == LeftOut("documents", (), 1)


def test_names_in_encoded_words_are_known() -> None:
    mail = b'Content-Type: application/pdf; name="=?iso-8859-1?q?f=FCr_uns.pdf?="\n\n%PDF-'
    assert unmet(mail, "email", ["für uns.pdf"]) is None
    assert unmet(mail, "email", []) == LeftOut("documents", ("für uns.pdf",))


def test_what_is_no_document_is_not_counted() -> None:
    mail = EmailMessage()
    mail.set_content("The body.")
    mail.add_alternative("<p>The body.</p>", subtype="html")
    mail.add_attachment(b"0\x82 signature", maintype="application", subtype="pkcs7-signature", filename="smime.p7s")
    mail.add_attachment(b"secret", maintype="application", subtype="octet-stream", filename="id_rsa")
    mail.add_attachment(b"", maintype="application", subtype="octet-stream", filename="empty.bin")
    assert unmet(mail.as_bytes(), "email", []) is None
    mail.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="photo.png")
    assert unmet(mail.as_bytes(), "email", []) == LeftOut("documents", ("photo.png",))


def test_a_text_with_a_name_is_met_as_text_too() -> None:
    mail = b'Content-Type: text/plain; name="a.txt"\n\nEight apples and three pears.\n'
    assert unmet(mail, "email", [], read="Subject: x\n\nEight apples and three pears.") is None
    assert unmet(mail, "email", [], read="Subject: x") == LeftOut("documents", ("a.txt",))


def test_files_written_into_a_text_and_in_winmail_are_counted() -> None:
    text = b"Here it is:\n\nbegin 644 notes.csv\nM" + b"1" * 60 + b"\nend\n"
    assert unmet(text, "email", []) == LeftOut("documents", ("notes.csv",))
    mail = EmailMessage()
    mail.add_attachment(winmail_file(), maintype="application", subtype="ms-tnef", filename="winmail.dat")
    assert unmet(mail.as_bytes(), "email", NAMES) is None
    assert unmet(mail.as_bytes(), "email", NAMES[1:]) == LeftOut("documents", (NAMES[0],))


def test_an_empty_file_in_winmail_is_no_loss() -> None:
    data = formats.tnef(
        (2, 0x00069002, bytes(14)),
        (2, 0x00018010, b"empty.bat\0"),
        (2, 0x0006800F, b""),
        (2, 0x00069002, bytes(14)),
        (2, 0x00018010, b"a.ini\0"),
        (2, 0x0006800F, b"[a]"),
    )
    assert unmet(data, "tnef", ["a.ini"]) is None
    assert unmet(data, "tnef", []) == LeftOut("documents", ("a.ini",))


def test_a_message_inside_is_one_document_whatever_it_holds() -> None:
    mail = EmailMessage()
    mail.set_content("Look.")
    inner = EmailMessage()
    inner.set_content("It says.")
    inner.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="a.pdf")
    mail.add_attachment(inner)
    assert unmet(mail.as_bytes(), "email", ["message.eml"]) is None
    assert unmet(mail.as_bytes(), "email", []) == LeftOut("documents", ("message.eml",))


def test_what_is_said_to_be_left_out_was_met() -> None:
    met = Met()
    met.left_out(LeftOut("image", ("Subject > first.csv",)))
    met.left_out(LeftOut("object", (), 1))
    met.member(Member("the third.docx", io.BytesIO))
    met.member(Member("message.rtf", io.BytesIO, is_named=False))  # the body of a message
    assert (met.names, met.images) == (["", "the third.docx"], ["first.csv"])
    assert missing_members(io.BytesIO(mail_file()), "email", met, "") is None
    met = Met(NAMES[:2], images=["", ""])
    lost = LeftOut("documents", (NAMES[2],))
    assert missing_members(io.BytesIO(word_file()), "docx", met, "") == lost, "pictures are no documents there"
    met = Met()
    met.left_out(LeftOut("rest", note="the parts after 10,000"))
    assert missing_members(io.BytesIO(mail_file()), "email", met, "") is None, "that is said already"


@pytest.mark.parametrize("form", ["email", "mbox", "msg", "tnef", "docx", "odt", "zip", "tar", "no_format"])
def test_a_count_that_fails_says_nothing(form: str) -> None:
    assert unmet(b"PK\x03\x04 is damaged \xff\xfe", form, []) is None


@pytest.mark.parametrize("step", [1, 511, 10_240])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_of_a_tar_are_found_however_it_is_read(step: int, format: int) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as made:
        for name, kind in (("in", tarfile.DIRTYPE), ("in/link", tarfile.SYMTYPE), (f"in/{'long/' * 25}a", None)):
            one = tarfile.TarInfo(name)
            one.type = kind or tarfile.REGTYPE
            one.size = 0 if kind else 700
            made.addfile(one, io.BytesIO(bytes(700)))
        made.addfile(tarfile.TarInfo("in/empty"))
    data = file.getvalue() + tar_file()  # behind the end, which is no part of it
    heads = TarHeads()
    for at in range(0, len(data), step):
        heads.take(data[at : at + step])
    assert len(heads.names) == 2
    assert heads.names[1] == "in/empty"
