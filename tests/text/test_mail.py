"""Mail as it is found: mailboxes, wrong charsets, broken encodings, invitations, winmail.dat, encrypted parts."""

import base64
import binascii
import io
import quopri
import struct
import time
from email.message import EmailMessage

import pytest

import formats
from airweave_server.sdk import Entity
from airweave_server.text import documents, mailbox, reading
from airweave_server.text.extract import SAMPLE_BYTES, detect_format, extract
from airweave_server.text.parsers import Parsers
from airweave_server.text.parts import Extracted, LeftOut, NoText

HEAD = b"From: Ann <ann@x.org>\nTo: bob@x.org\nDate: Thu, 02 Jul 2026 10:00:00 +0200\nMIME-Version: 1.0\n"
FROM = b"From ann@x.org Thu Jul  2 10:00:00 2026\n"


def read(data: bytes, filename: str = "a.eml") -> Extracted:
    form = detect_format(data[:SAMPLE_BYTES], filename=filename)
    assert not isinstance(form, NoText), form
    found = documents.read(io.BytesIO(data), filename=filename) if form else extract(data, filename=filename)
    assert isinstance(found, Extracted), found
    return found


def mail(body: bytes, *headers: str) -> bytes:
    return HEAD + "".join(f"{header}\n" for header in headers).encode() + b"\n" + body


def multipart(kind: str, *parts: bytes, head: bytes = HEAD) -> bytes:
    inner = b"".join(b"--o\n" + part + b"\n" for part in parts)
    return head + b"Content-Type: multipart/" + kind.encode() + b"; boundary=o\n\n" + inner + b"--o--\n"


def plain(words: str, *headers: str) -> bytes:
    return "".join(f"{header}\n" for header in ("Content-Type: text/plain; charset=utf-8", *headers)).encode() + (
        b"\n" + words.encode()
    )


def page(words: str) -> bytes:
    return b"Content-Type: text/html; charset=utf-8\n\n<p>" + words.encode() + b"</p>"


def labels(found: Extracted) -> list[str]:
    return [section.label for section in found.sections]


def left_out(found: Extracted) -> set[str]:
    return {one.what for one in found.left_out}


# Mailboxes, and files of mail programs


@pytest.mark.parametrize(
    "line", [FROM, b">" + FROM, b"From - Thu Jul 02 10:00:00 2026\n", b"\n" + FROM, b"\xef\xbb\xbf"]
)
@pytest.mark.parametrize("name", ["a.eml", "a.mbox", "Inbox", "saved.txt"])
def test_a_mail_may_begin_with_the_line_of_a_mailbox(line: bytes, name: str) -> None:
    coded = base64.encodebytes("Grüße MBOXLINEBODY".encode())
    data = mail(coded, "Subject: =?utf-8?B?UHLDvGY=?=", "Message-ID: <1@x>", "Content-Transfer-Encoding: base64")
    found = read(line + data, name)
    assert "Subject: Prüf\n" in found.text
    assert "Grüße MBOXLINEBODY" in found.text
    assert coded.decode().strip() not in found.text


def test_a_mailbox_is_read_message_by_message() -> None:
    body = b"Before.\n\n>From now on it is quoted.\nFrom here it is not, and no date follows.\n\n"
    first = mail(body, "Subject: First")
    second = multipart(
        "mixed",
        plain("The second body."),
        b"Content-Type: text/csv; name=t.csv\n\nName,Amount\napple,3\n",
        head=b"Subject: Second\n" + HEAD,
    )
    third = b"X-Mozilla-Status: 0001\nFrom: nobody\n\nNo subject here.\n"
    for ends in (b"\n", b"\r\n"):
        data = FROM + first + FROM + second + b"\n" + FROM + third
        found = read(data.replace(b"\n", ends), "All mail Including Spam and Trash.mbox")
        assert labels(found) == ["First", "Second", "Second > t.csv", "Message 3"]
        assert "From now on it is quoted.\nFrom here it is not" in found.text
        assert found.formats >= {"mbox", "csv"}
        assert not found.left_out


def test_a_mailbox_has_a_bound_and_what_comes_after_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MAX_MESSAGES", 10)
    found = read(b"".join(FROM + mail(b"Words %d.\n\n" % n, f"Subject: Mail {n}") for n in range(25)), "Inbox")
    assert labels(found) == [f"Mail {n}" for n in range(10)]
    assert found.left_out == (LeftOut("rest", count=15, note="the messages after 10"),)


def test_attachments_of_a_mailbox_do_not_end_it() -> None:
    attached = multipart("mixed", plain("Body."), b"Content-Type: text/plain; name=a.txt\n\nAttached.")
    found = read(b"".join(FROM + b"Subject: s%d\n" % n + attached for n in range(1_100)), "Inbox")
    assert len(found.sections) == 2_200
    assert not found.left_out


def test_a_message_too_large_for_memory_is_said_and_the_others_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MAX_MESSAGE_BYTES", 100_000)
    monkeypatch.setattr(mailbox, "BLOCK_BYTES", 10_000)
    large = mail(b"words and words\n" * 20_000, "Subject: Large")
    found = read(
        FROM + mail(b"One.\n\n", "Subject: A") + FROM + large + b"\n" + FROM + mail(b"Two.", "Subject: B"), "Inbox"
    )
    assert labels(found) == ["A", "B"]
    assert found.left_out == (LeftOut("too_large", ("message 2",)),)


@pytest.mark.usefixtures("scratch")
def test_a_mailbox_larger_than_a_document_is_read_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "DOCUMENT_BYTES", 3 * 1024 * 1024)
    data = b"".join(FROM + mail(b"words " * 20_000 + b"\n\n", f"Subject: Mail {n}") for n in range(50))
    entity = Entity(
        id="1", type="file", name="Inbox", filename="Inbox", open=lambda: io.BytesIO(data), size_bytes=len(data)
    )
    parsers = Parsers(seconds=20, memory_mb=400)
    try:
        found = reading.Reader(parsers).read(entity)
    finally:
        parsers.close()
    assert isinstance(found, Extracted)
    assert labels(found)[:20] == [f"Mail {n}" for n in range(20)]
    assert len(found.sections) < 30
    assert found.left_out == (LeftOut("rest", note="the messages after 3 MB"),)


def test_the_files_of_apple_mail_are_read() -> None:
    message = mail(b"The Apple body.\n", "Subject: Emlx")
    data = b"%d      \n" % len(message) + message + b'<?xml version="1.0"?><plist><key>flags</key></plist>'
    for name in ("1234.emlx", "1234.partial.emlx"):
        found = read(data, name)
        assert "The Apple body." in found.text
        assert "plist" not in found.text
    missing = plain("", "X-Apple-Content-Length: 5000", "Content-Disposition: attachment; filename=big.pdf")
    found = read(multipart("mixed", plain("Body."), missing), "1.partial.emlx")
    assert found.left_out == (LeftOut("attachment", ("big.pdf",), note="it is stored beside the message"),)


@pytest.mark.parametrize("name", ["page.mht", "page.mhtml", "report.doc", "sheet.xls", "page.html", "saved", "a.pdf"])
def test_a_web_page_saved_as_mime_is_told_by_its_content(name: str) -> None:
    image = b"Content-Type: image/png\nContent-Transfer-Encoding: base64\nContent-Location: a.png\n\niVBORw0KGgo="
    style = b"Content-Type: text/css\n\np { color: red }"
    head = b"MIME-Version: 1.0\n"
    text = (
        b"Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n<p>The p=C3=A5ge.</p>"
    )
    found = read(multipart("related", text, style, image, head=head), name)
    assert "The påge." in found.text
    assert "color" not in found.text
    assert left_out(found) == {"image"}


def test_source_code_that_talks_of_mail_is_none() -> None:
    data = mail(b"text", "Subject: x", "Message-ID: <1>", "Content-Type: text/plain")
    for name in ("howto.md", "sample.py", "notes.rst"):
        assert detect_format(data, filename=name) is None
    assert detect_format(b"From Rome to Paris 10:00 2026\nand back\n", filename="trip.txt") is None


# Charsets


@pytest.mark.parametrize(
    ("declared", "encoding", "words"),
    [
        ("x-unknown", "utf-8", "Grüße aus Köln"),
        ("iso-8859-8-i", "cp1255", "שלום לכולם"),
        ("unicode-1-1-utf-7", "utf-7", "Grüße aus Köln"),
        ("cp-850", "cp850", "Grüße aus Köln"),
        ("ansi", "cp1252", "Preis: 5 € – “gut”"),
        ("iso-8859-1", "cp1252", "Preis: 5 € – “gut”"),
        ("iso-8859-1", "utf-8", "Preis: 5 € für Köln"),
        ("us-ascii", "utf-8", "Preis: 5 € für Köln"),
        ("us-ascii", "cp1252", "Grüße aus Köln"),
        ("utf-8", "cp1252", "Grüße aus Köln, schöne Tage"),
        ("windows-1251", "utf-8", "Привет из Москвы"),
        ("gb2312", "gb18030", "朱镕基 會議"),
        ("ks_c_5601-1987", "cp949", "똠방각하 회의"),
        ("shift_jis", "cp932", "① 会議 ㈱"),
        ("euc-jp", "euc_jp", "会議の件"),
        ("iso-2022-jp", "utf-8", "会議の件"),
        ("UTF-8;", "utf-8", "会議の件"),
        ("", "utf-8", "Grüße aus Köln"),
        ("hex", "utf-8", "Grüße aus Köln"),
    ],
)
def test_a_body_is_read_in_the_charset_that_it_is_in(declared: str, encoding: str, words: str) -> None:
    body = f"{words}, IDENT77.\n".encode(encoding)
    for coding, coded in (
        ("8bit", body),
        ("base64", base64.encodebytes(body)),
        ("quoted-printable", quopri.encodestring(body)),
    ):
        head = f"Content-Type: text/plain; charset={declared}" if declared else "X-None: 1"
        assert f"{words}, IDENT77." in read(mail(coded, head, f"Content-Transfer-Encoding: {coding}")).text


JAPANESE = "会議の件は明日です".encode("iso2022_jp")


@pytest.mark.parametrize("charset", ["ISO-2022-JP", "iso-2022-jp-ms", "cp50221", "us-ascii", "utf-8"])
@pytest.mark.parametrize(
    ("vendor", "said"),
    [
        (b"\x1b$B-!\x1b(B", "①"),
        (b"\x1b$B-j\x1b(B", "㈱"),
        (b"\x1b$B\x7c\x21\x1b(B", None),
        (b"\x1b$B|~\x1b(B", None),
        (b"\x1b(I1\x1b(B", "ｱ"),
        (b"\x1b$(D0!\x1b(B", "丂"),
        (b"\x1b$B)!\x1b(B", None),
        (b"\x1b$B0\x1b(B", None),
    ],
)
def test_one_character_outside_the_charset_costs_no_other(charset: str, vendor: bytes, said: str | None) -> None:
    body = JAPANESE + b" before " + vendor + b" after " + JAPANESE
    text = read(mail(body, f"Content-Type: text/plain; charset={charset}")).text
    assert text.count("会議の件は明日です") == 2
    inside = text.partition(" before ")[2].partition(" after ")[0]
    assert inside == said if said else len(inside) <= 1


@pytest.mark.parametrize(
    ("charset", "bad", "words"),
    [
        ("utf-8", b"\xff", "Grüße aus Köln"),
        ("euc-jp", b"\xad\xa1", "会議の件"),
        ("big5", b"\xff", "會議時間"),
        ("euc-kr", b"\xff", "회의 시간"),
        ("gb2312", b"\xff", "会议时间"),
        ("shift_jis", b"\xfd", "会議の件"),
    ],
)
def test_one_wrong_byte_costs_one_character(charset: str, bad: bytes, words: str) -> None:
    body = words.encode(charset) + b" " + bad + b" " + words.encode(charset)
    assert read(mail(body, f"Content-Type: text/plain; charset={charset}")).text.count(words) == 2


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"Gr\xc3\xbc\xc3\x9fe aus K\xc3\xb6ln", "Grüße aus Köln"),
        (b"Gr\xfc\xdfe aus K\xf6ln", "Grüße aus Köln"),
        (b"=?utf-8?B?R3LDvMOf?= =?utf-8?Q?e_da?=", "Grüße da"),
        (b"=?utf-8?B?4piDIOKY?=\n =?utf-8?B?gyBzbm93?=", "☃ ☃ snow"),
        (b"=?utf-8?Q?Pr=C3?=\n\t=?utf-8?Q?=BCfung?=", "Prüfung"),
        (b"=?UTF-8?Q?a b=20c?= d", "a b c d"),
        (b"Re:=?utf-8?q?Pr=C3=BCf?=x", "Re:Prüfx"),
        (b"=?iso-2022-jp?B?GyRCLSEbKEIgGyRCMnE1RBsoQg==?=", "① 会議"),
        (b"=?x-unknown?q?Caf=E9?=", "Café"),
        (b"=?utf-8?B?R3LDvMOfZQ?=", "Grüße"),
        (b"=?gb2312?B?0LvQuw==?=", "谢谢"),
        (b"What =? and ?= mean", "What =? and ?= mean"),
    ],
)
def test_headers_are_decoded_as_they_are_found(header: bytes, said: str) -> None:
    assert f"Subject: {said}\n" in read(b"Subject: " + header + b"\n" + mail(b"Body.")).text


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("attachment; filename*=utf-8''Pr%C3%BCf%20bericht.txt", "Prüf bericht.txt"),
        ("attachment; filename*0*=utf-8''Pr%C3; filename*1*=%BCf; filename*2=.txt", "Prüf.txt"),
        ('attachment; filename*0="long "; filename*1="name.txt"', "long name.txt"),
        ('attachment; filename="=?utf-8?Q?Pr=C3=BCf.txt?="', "Prüf.txt"),
        ("attachment; filename=not quoted name.txt", "not quoted name.txt"),
        ("attachment; filename=Prüf.txt", "Prüf.txt"),
        ("attachment", "attachment.txt"),
    ],
)
def test_names_of_attachments_are_read(disposition: str, name: str) -> None:
    part = f"Content-Type: text/plain\nContent-Disposition: {disposition}\n\nATTACHED77".encode()
    found = read(multipart("mixed", plain("Body."), part))
    assert labels(found)[-1] == name
    assert "ATTACHED77" in found.text


# Transfer encodings


LONG = "The quick brown fox jumps over the lazy dog, and Grüße to all of them. " * 5


@pytest.mark.parametrize(
    "coded",
    [
        base64.encodebytes(LONG.encode()),
        base64.b64encode(LONG.encode()).rstrip(b"="),
        base64.encodebytes(LONG.encode()).replace(b"\n", b" \r\n!"),
        b"".join(base64.b64encode(LONG.encode()[n : n + 10]) + b"\n" for n in range(0, len(LONG.encode()), 10)),
        base64.encodebytes(LONG.encode()) + b"\n-- \nSent from a list, unsubscribe there\n",
        LONG.encode(),
    ],
)
def test_base64_is_decoded_whatever_is_in_it(coded: bytes) -> None:
    text = read(mail(coded, "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: base64")).text
    assert " ".join(LONG.split()) in " ".join(text.split())
    assert ("unsubscribe there" in text) == (b"unsubscribe there" in coded)


@pytest.mark.parametrize("headers", [[], ["Content-Transfer-Encoding: 7bit"], ["Content-Transfer-Encoding: x-odd"]])
def test_a_body_that_is_base64_without_saying_so_is_decoded(headers: list[str]) -> None:
    found = read(mail(base64.encodebytes(LONG.encode()), *headers))
    assert "lazy dog, and Grüße" in found.text
    assert "VGhlIHF1aWNr" not in found.text


def test_words_that_could_be_base64_stay() -> None:
    for words in ("Hello123", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef", "deadbeefdeadbeefdeadbeefdeadbeef"):
        assert words in read(mail(words.encode(), "Content-Type: text/plain")).text


def test_quoted_printable_with_bad_escapes_is_read() -> None:
    body = b"soft =\nbreak, spaced = \nbreak, bad =ZZ and =4, good =C3=BC, end ="
    text = read(
        mail(body, "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: Quoted_Printable")
    ).text
    assert "soft break, spaced break, bad =ZZ and =4, good ü, end" in text


def test_files_uuencoded_in_a_body_are_attachments() -> None:
    data = b"Name,Amount\napple,3\n" * 5
    lines = b"".join(binascii.b2a_uu(data[n : n + 45]) for n in range(0, len(data), 45))
    found = read(mail(b"See this:\n\nbegin 644 table.csv\n" + lines + b"`\nend\n\nBye.\n", "Subject: uu"))
    assert labels(found) == ["uu", "table.csv"]
    assert "Name: apple; Amount: 3" in found.text
    assert lines.splitlines()[0].decode() not in found.text
    assert "See this:" in found.text
    assert "Bye." in found.text


def test_a_message_in_base64_is_read_as_one() -> None:
    inner = mail(b"The inner body.", "Subject: Inner")
    part = b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + base64.encodebytes(inner)
    found = read(multipart("mixed", plain("The outer body."), part))
    assert labels(found) == ["", "Inner"]
    assert "The inner body." in found.text


# The parts of a message


def test_all_text_parts_are_read_in_order() -> None:
    image = b"Content-Type: image/png; name=a.png\n\nx"
    found = read(multipart("mixed", plain("One."), image, plain("Two."), page("Three &amp; more."), plain("Four.")))
    assert "One.\n\nTwo.\n\nThree & more.\n\nFour." in found.text
    assert found.left_out == (LeftOut("image", ("a.png",)),)


@pytest.mark.parametrize(
    ("said", "html", "expected", "missing"),
    [
        ("The same words.", "The <b>same</b> words.", "The same words.", "#"),
        ("", "Only in the page.", "Only in the page.", "~"),
        ("Please view this message in HTML.", "The news: " + "much to say. " * 20, "much to say.", "Please view"),
        ("Short.", "Short. " + "And much that the plain one lacks. " * 20, "plain one lacks", "~"),
    ],
)
def test_of_two_forms_the_one_that_says_more_is_read(said: str, html: str, expected: str, missing: str) -> None:
    for parts in ((plain(said), page(html)), (page(html), plain(said))):
        text = read(multipart("alternative", *parts)).text
        assert text.count(expected) >= 1
        assert missing not in text
        assert text.count("same words") <= 1


def test_what_is_attached_to_one_form_is_read() -> None:
    related = (
        multipart(
            "related",
            page("The page, which says the same."),
            b"Content-Type: text/csv; name=a.csv\n\na,b\n1,2",
            head=b"",
        )
        .replace(b"--o", b"--i")
        .replace(b"boundary=o", b"boundary=i")
    )
    found = read(multipart("alternative", plain("The plain text, which says the same."), related))
    assert labels(found) == ["", "a.csv"]
    assert "The page" not in found.text


def test_parts_that_are_not_what_they_say_are_read_as_what_they_are() -> None:
    rich = b"Content-Type: text/rtf\n\n" + formats.rich_text()
    found = read(multipart("mixed", plain("Body."), rich))
    assert "café costs 3 €" in found.text
    assert "rtf1" not in found.text
    text = read(mail(b"<html><body><p>A page &amp; more</p></body></html>", "Content-Type: text/plain")).text
    assert "A page & more" in text
    assert "<p>" not in text
    quoted = b"Soft =\nbreaks and an =C3=BC, which nobody =\ndeclares.\n"
    assert "Soft breaks and an ü, which nobody declares." in read(mail(quoted)).text
    assert "x = 3 =\n= y" in read(mail(b"x = 3 =\n= y\n")).text
    table = "Name;Größe\nżółw;3\n".encode("cp1250")
    part = b"Content-Type: text/csv; charset=windows-1250; name=a.csv\nContent-Disposition: attachment\n\n" + table
    assert "Name: żółw; Größe: 3" in read(multipart("mixed", plain("Body."), part)).text


def test_lines_that_flow_are_joined() -> None:
    body = b"One sentence \nthat goes on.\n\n> Quoted \n> text.\n-- \nAnn\n"
    text = read(mail(body, "Content-Type: text/plain; format=flowed")).text
    assert "One sentence that goes on.\n" in text
    assert "\n-- \nAnn" in text
    japanese = "会議 \nの件\n".encode()
    assert "会議の件" in read(mail(japanese, "Content-Type: text/plain; charset=utf-8; format=flowed; delsp=yes")).text


def test_a_digest_and_a_report_are_read() -> None:
    digest = multipart("digest", b"\n" + mail(b"Body A.", "Subject: A"), b"\n" + mail(b"Body B.", "Subject: B"))
    found = read(digest)
    assert labels(found)[-2:] == ["A", "B"]
    status = b"Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822;x@y.org\nStatus: 5.1.1\n"
    original = b"Content-Type: message/rfc822\n\n" + mail(b"What was sent.", "Subject: Sent")
    found = read(multipart("report; report-type=delivery-status", plain("It failed."), status, original))
    for words in ("It failed.", "Status: 5.1.1", "What was sent."):
        assert words in found.text


def test_signed_mail_is_read_and_encrypted_mail_is_said() -> None:
    signature = (
        b"Content-Type: application/pgp-signature\n\n-----BEGIN PGP SIGNATURE-----\n\nabc=\n-----END PGP SIGNATURE-----"
    )
    found = read(multipart("signed", plain("What is signed."), signature))
    assert "What is signed." in found.text
    assert not found.left_out
    parts = b"Content-Type: application/pgp-encrypted\n\nVersion: 1", b"Content-Type: application/octet-stream\n\nhQEMA"
    found = read(multipart("encrypted", *parts, head=b"Subject: Secret\n" + HEAD))
    assert left_out(found) == {"encrypted"}
    assert "hQEMA" not in found.text
    found = read(
        mail(
            base64.encodebytes(bytes(range(256)) * 4),
            "Subject: S/MIME",
            "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m",
            "Content-Transfer-Encoding: base64",
        )
    )
    assert left_out(found) == {"encrypted"}
    armor = b"-----BEGIN PGP MESSAGE-----\nVersion: 2\n\nhQEMA1234567890abcdef\n=abcd\n-----END PGP MESSAGE-----\n"
    found = read(mail(b"Here it is:\n\n" + armor + b"\nBye.\n", "Subject: Inline"))
    assert left_out(found) == {"encrypted"}
    assert "hQEMA" not in found.text
    assert "Bye." in found.text


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    return bytes([tag]) + (bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")) + content


@pytest.mark.parametrize("in_pieces", [False, True])
def test_the_message_in_an_opaque_signature_is_read(in_pieces: bool) -> None:
    inner = plain("What is signed and wrapped.")
    data = der(0x06, bytes.fromhex("2a864886f70d010701"))
    if in_pieces:
        pieces = [der(0x04, inner[n : n + 20]) for n in range(0, len(inner), 20)]
        content = b"\x30\x80" + data + b"\xa0\x80\x24\x80" + b"".join(pieces) + bytes(6)
    else:
        content = der(0x30, data, der(0xA0, der(0x04, inner)))
    signed = der(0x30, b"\x02\x01\x01", der(0x31), content)
    wrapped = der(0x30, der(0x06, bytes.fromhex("2a864886f70d010702")), der(0xA0, signed))
    kind = "Content-Type: application/pkcs7-mime; smime-type=signed-data"
    found = read(mail(base64.encodebytes(wrapped), kind, "Content-Transfer-Encoding: base64"))
    assert "What is signed and wrapped." in found.text
    assert not found.left_out
    invoice = wrapped.replace(inner, b"Name,Amount\napple,3\n".ljust(len(inner)))
    if not in_pieces:  # a file within its signature, as they are common in Italy
        assert "Name: apple; Amount: 3" in read(invoice, "invoice.csv.p7m").text


def test_what_is_stored_elsewhere_is_said() -> None:
    external = b"Content-Type: message/external-body; access-type=URL; url=https://x.org/a.pdf; name=a.pdf\n\n"
    found = read(multipart("mixed", plain("Body."), external))
    assert found.left_out == (LeftOut("attachment", ("a.pdf",), note="it is stored elsewhere: https://x.org/a.pdf"),)
    found = read(mail(b"A piece of it.", "Content-Type: message/partial; number=2; total=3; id=x"))
    assert left_out(found) == {"rest"}


def test_what_to_write_to_a_mail_server_for_a_file_is_read() -> None:
    external = b"Content-Type: message/external-body; access-type=mail-server; server=files@x.org\n\n"
    request = b"Content-Type: text/plain\nContent-ID: <1@x.org>\n\nFILE /drafts/QX-7781.txt\n"
    found = read(multipart("mixed", plain("Body."), external + request))
    assert found.text.rstrip().endswith("Body.\n\nFILE /drafts/QX-7781.txt")
    assert left_out(found) == {"attachment"}


def test_an_attachment_is_read_by_its_content_whatever_its_type_says() -> None:
    coded = base64.encodebytes(formats.pdf([["Words of the PDF."]]))
    for kind in ("application/octet-stream", "image/png", "application/msword; name=a.doc"):
        part = b"Content-Type: " + kind.encode() + b"\nContent-Transfer-Encoding: base64\n\n" + coded
        assert "Words of the PDF." in read(multipart("mixed", plain("Body."), part)).text


# Invitations, and what Outlook packs


EVENT = """BEGIN:VCALENDAR
METHOD:REQUEST
BEGIN:VTIMEZONE
TZID:Europe/Berlin
BEGIN:STANDARD
DTSTART:19701025T030000
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
UID:1
SUMMARY:Review of QX-7781\\, second round
DTSTART;TZID=Europe/Berlin:20260702T100000
DTEND;TZID=Europe/Berlin:20260702T113000
LOCATION:Room Z
 ürich
ORGANIZER;CN="Ann; the boss":mailto:ann@x.org
ATTENDEE;CN=Bob;PARTSTAT=NEEDS-ACTION:mailto:bob@x.org
RRULE:FREQ=WEEKLY;COUNT=3
DESCRIPTION:Bring the\\nagenda
ATTACH;ENCODING=BASE64;VALUE=BINARY:aGVsbG8=
BEGIN:VALARM
DESCRIPTION:Reminder
END:VALARM
END:VEVENT
END:VCALENDAR
"""
EVENT_SAYS = (
    "Review of QX-7781, second round",
    "Start: 2026-07-02 10:00 Europe/Berlin",
    "End: 2026-07-02 11:30",
    "Room Zürich",
    "Ann; the boss <ann@x.org>",
    "Bob <bob@x.org>",
    "FREQ=WEEKLY;COUNT=3",
    "Bring the\nagenda",
)


def test_an_invitation_is_read_once() -> None:
    event = b"Content-Type: text/calendar; charset=utf-8; method=REQUEST\n\n" + EVENT.encode()
    attached = b"Content-Type: application/ics; name=invite.ics\n\n" + EVENT.encode()
    found = read(
        multipart(
            "mixed",
            multipart("alternative", plain("You are invited."), event, head=b"")
            .replace(b"--o", b"--i")
            .replace(b"=o", b"=i"),
            attached,
        )
    )
    for words in ("You are invited.", *EVENT_SAYS):
        assert found.text.count(words) == 1, words
    assert "Reminder" not in found.text
    assert "aGVsbG8" not in found.text
    assert not found.left_out


def test_calendars_and_cards_are_read_as_files() -> None:
    found = read(EVENT.replace("\n", "\r\n").encode(), "a.ics")
    for words in EVENT_SAYS:
        assert words in found.text
    card = (
        "BEGIN:VCARD\nVERSION:2.1\nN:Müller;Ann;;Dr.\nFN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:Ann M=C3=BC=\nller\n"
        "ORG:Widgets Inc.;Research\nitem1.EMAIL;TYPE=work:ann@x.org\nTEL;CELL:+49 171 5557781\n"
        "PHOTO;ENCODING=BASE64;TYPE=JPEG:/9j/4AAQSkZJRgABAQ\n AAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8U\n\n"
        "NOTE:Met in\\nKöln\nEND:VCARD\n"
    )
    found = read(card.encode() * 2, "contacts.vcf")
    for words in ("# Contact: Ann Müller", "Widgets Inc., Research", "ann@x.org", "+49 171 5557781", "Met in\nKöln"):
        assert found.text.count(words) == 2, words
    assert "AAQSkZJRg" not in found.text


def test_winmail_dat_is_read_and_its_body_once() -> None:
    packed = base64.encodebytes(formats.winmail())
    part = b"Content-Type: application/ms-tnef; name=winmail.dat\nContent-Transfer-Encoding: base64\n\n" + packed
    found = read(multipart("mixed", plain("The café in it."), part))
    assert labels(found) == ["", "table.csv"]
    assert found.text.count("café") == 1
    found = read(multipart("mixed", plain("See attached."), part))
    assert "The café in it." in found.text
    cut = base64.encodebytes(formats.winmail()[:-10])
    found = read(multipart("mixed", plain("x"), part.replace(packed, cut)))
    assert left_out(found) == {"attachment", "damaged"}
    assert "The café in it." in found.text


def test_a_body_in_rtf_is_read_once() -> None:
    said = b"{\\rtf1\\ansi The words of the body, and\\b  bold ones\\b0 .\\par}"
    stored = struct.pack("<IIII", len(said) + 12, len(said), 0x414C454D, 0) + said
    packed = base64.encodebytes(formats.winmail_with(0x1009, stored))
    part = b"Content-Type: application/ms-tnef; name=winmail.dat\nContent-Transfer-Encoding: base64\n\n" + packed
    for body in ("The words of the body, and bold ones.", "See attached."):
        assert read(multipart("mixed", plain(body), part)).text.count("words of the body") == 1


def test_places_in_a_mailbox_name_the_message() -> None:
    image = b"Content-Type: image/png; name=a.png\n\nx"
    locked = multipart("encrypted", b"Content-Type: application/octet-stream\n\nx", head=b"Subject: B\n")
    found = read(FROM + multipart("mixed", plain("One."), image, head=b"Subject: A\n") + b"\n" + FROM + locked)
    assert found.left_out == (LeftOut("image", ("A > a.png",)), LeftOut("encrypted", ("B > message",)))


def test_rtf_is_decompressed() -> None:
    # the example of MS-OXRTFCP 3.1.1, and one that refers to itself
    first = bytes.fromhex(
        "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
    )
    found = read(formats.winmail_with(0x1009, first), "winmail.dat")
    assert "hello world" in found.text
    second = bytes.fromhex("1a0000001c0000004c5a4675e2d44b51410004205758595a0d6e7d010eb0")
    assert "WXYZWXYZWXYZWXYZWXYZ" in read(formats.winmail_with(0x1009, second), "winmail.dat").text


# Bounds


def test_hostile_messages_are_read_in_time() -> None:
    many = b"".join(b"--o\nContent-Type: text/plain\n\nx\n" for _ in range(30_000))
    deep = b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n"
    hostile = [
        HEAD + b"Content-Type: multipart/mixed; boundary=o\n\n" + many,
        HEAD + b"".join(deep % (n, n) for n in range(5_000)) + b"\nwords",
        b"Subject: " + b"=?utf-8?q?a?= " * 200_000 + b"\n\nwords",
        b"Subject: x\n" + b"X-A: b\n" * 300_000 + b"\nwords",
        b"Subject: x\n" + b" folded\n" * 300_000 + b"\nwords",
        HEAD + b"Content-Type: text/plain" + b"; a=b" * 100_000 + b"\n\nwords",
        HEAD + b'Content-Type: text/plain; a="' + b"\\" * 200_000 + b"\n\nwords",
        HEAD + b"\n" + b"begin 644 x\n" * 100_000,
        HEAD + b"\n" + b"-----BEGIN PGP MESSAGE-----\n" * 100_000,
        HEAD + b"\n" + b"\x1b$B" * 300_000,
        HEAD + b"\n" + b"=?" * 500_000,
        FROM * 50_000,
        b"\0" * 100 + HEAD,
    ]
    for data in hostile:
        began = time.process_time()
        found = documents.read(io.BytesIO(data), filename="a.eml")
        assert isinstance(found, Extracted | NoText)
        assert time.process_time() - began < 10


def test_a_message_without_an_empty_line_or_with_nul_is_read() -> None:
    assert "words follow at once" in read(b"Subject: x\nFrom: a\nwords follow at once, and more\n").text
    assert "nul in it" in read(mail(b"nul\0 in it")).text.replace("\0", "")
    made = EmailMessage()
    made["Subject"] = "S"
    made.set_content("words")
    assert "words" in read(made.as_bytes().replace(b"\n", b"\r")).text
