"""Outlook messages whose body, dates and characters are kept in the ways that Outlook has."""

import io
import struct
from datetime import UTC, datetime

import pytest

import formats
from airweave_server.text import documents
from airweave_server.text.parts import Extracted

COMPRESSED = bytes.fromhex(  # the example of MS-OXRTFCP 3.1.1: "hello world"
    "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
)
ENVELOPED = bytes.fromhex("308006092a864886f70d010703a080") + bytes(100)
SUBMITTED = int((datetime(2026, 7, 2, 8, 0, tzinfo=UTC) - datetime(1601, 1, 1, tzinfo=UTC)).total_seconds() * 10**7)


def wide(said: str) -> bytes:
    return said.encode("utf-16-le")


def fixed(*properties: tuple[int, int, int]) -> bytes:
    """A stream of properties of a fixed size: (id, type, value) each."""
    return bytes(32) + b"".join(struct.pack("<HHIQ", kind, id, 6, value) for id, kind, value in properties)


def read(streams: dict[str, bytes]) -> Extracted:
    data = formats.compound({"__properties_version1.0": bytes(32), **streams})
    found = documents.read(io.BytesIO(data), filename="a.msg")
    assert isinstance(found, Extracted), found
    return found


def test_the_date_is_read() -> None:
    found = read({"__properties_version1.0": fixed((0x0039, 0x40, SUBMITTED)), "__substg1.0_1000001F": wide("Body.")})
    assert "Date: Thu, 02 Jul 2026 08:00:00 +0000\n\nBody." in found.text


@pytest.mark.parametrize(
    ("codepage", "encoding", "words"),
    [
        (1251, "cp1251", "Привет"),
        (932, "cp932", "会議①"),
        (1250, "cp1250", "zażółć"),
        (936, "gbk", "会议"),
        (65001, "utf-8", "é"),
    ],
)
@pytest.mark.parametrize("property_id", [0x3FFD, 0x3FDE])
def test_strings_of_bytes_are_in_the_code_page_of_the_message(
    codepage: int, encoding: str, words: str, property_id: int
) -> None:
    streams = {
        "__properties_version1.0": fixed((property_id, 3, codepage)),
        "__substg1.0_0037001E": words.encode(encoding),
        "__substg1.0_1000001E": f"Body {words}.".encode(encoding),
    }
    found = read(streams)
    assert f"Subject: {words}\n" in found.text
    assert f"Body {words}." in found.text


def test_a_body_that_is_only_a_page_or_compressed_rtf_is_read() -> None:
    page = "<html><body><p>Grüße &amp; more</p></body></html>".encode("cp1252")
    streams = {"__properties_version1.0": fixed((0x3FDE, 3, 1252)), "__substg1.0_10130102": page}
    assert "Grüße & more" in read(streams).text
    found = read({"__substg1.0_0037001F": wide("Rich"), "__substg1.0_10090102": COMPRESSED.ljust(5_000, b"\0")})
    assert "hello world" in found.text
    assert {section.label for section in found.sections} == {"Rich"}


def test_a_damaged_body_loses_no_attachment() -> None:
    found = read(
        {
            "__substg1.0_0037001F": wide("Broken"),
            "__substg1.0_10090102": b"\xff" * 5_000,
            "__attach_version1.0_#00000000/__substg1.0_3707001F": wide("table.csv"),
            "__attach_version1.0_#00000000/__substg1.0_37010102": b"Name,Amount\napple,3\n",
        }
    )
    assert "Name: apple; Amount: 3" in found.text


def test_an_appointment_and_a_contact_are_read() -> None:
    names = struct.pack("<IHH", 0x8208, 0, 0) + struct.pack("<IHH", 0x820D, 0, 1) + struct.pack("<IHH", 0x8083, 0, 2)
    found = read(
        {
            "__properties_version1.0": fixed((0x8001, 0x40, SUBMITTED)),
            "__nameid_version1.0/__substg1.0_00030102": names,
            "__substg1.0_001A001F": wide("IPM.Contact"),
            "__substg1.0_0037001F": wide("Meet Ann"),
            "__substg1.0_8000001F": wide("Room Zürich"),
            "__substg1.0_8002001F": wide("ann@x.org"),
            "__substg1.0_3A16001F": wide("Widgets Inc."),
        }
    )
    for words in (
        "Where: Room Zürich",
        "Start: Thu, 02 Jul 2026 08:00:00",
        "E-mail: ann@x.org",
        "Company: Widgets Inc.",
    ):
        assert words in found.text


def test_an_encrypted_message_says_so() -> None:
    found = read(
        {
            "__substg1.0_0037001F": wide("Secret"),
            "__substg1.0_001A001F": wide("IPM.Note.SMIME"),
            "__attach_version1.0_#00000000/__substg1.0_3707001F": wide("smime.p7m"),
            "__attach_version1.0_#00000000/__substg1.0_37010102": ENVELOPED,
        }
    )
    assert "encrypted" in {one.what for one in found.left_out}


def test_people_are_read_with_their_addresses() -> None:
    streams = {
        "__substg1.0_1000001F": wide("Body."),
        "__substg1.0_0C1A001F": wide("Ann"),
        "__substg1.0_0C1F001F": wide("/O=ORG/OU=FIRST/CN=RECIPIENTS/CN=ANN@BEN"),  # within an organization
        "__substg1.0_0E04001F": wide("Bob"),
    }
    for number, (name, address, kind) in enumerate((("Bob", "bob@x.org", 1), ("c@x.org", "c@x.org", 2))):
        at = f"__recip_version1.0_#{number:08X}"
        streams |= {
            f"{at}/__properties_version1.0": fixed((0x0C15, 3, kind))[24:],
            f"{at}/__substg1.0_3001001F": wide(name),
            f"{at}/__substg1.0_39FE001F": wide(address),
        }
    assert "From: Ann\nTo: Bob <bob@x.org>\nCc: c@x.org\n\nBody." in read(streams).text


@pytest.mark.parametrize(
    "header",
    ['"Ann, Lee (UNIT)" <Ann.Lee@x.org>', "Ann.Lee@x.org (Ann Lee)", "=?utf-8?q?=C3=84nn?=\r\n <Ann.Lee@x.org>"],
)
def test_the_address_of_a_sender_within_an_organization_is_that_of_the_headers(header: str) -> None:
    streams = {
        "__substg1.0_1000001F": wide("Body."),
        "__substg1.0_0C1A001F": wide("Ann, Lee"),
        "__substg1.0_0C1F001F": wide("/O=ORG/OU=FIRST/CN=RECIPIENTS/CN=ANN"),
    }
    headers = f"Received: from a@b.org\r\nFrom: {header}\r\nTo: bob@x.org\r\n\r\n"
    for said in (headers, f"Microsoft Mail Internet Headers Version 2.0\r\n{headers}"):
        assert "From: Ann, Lee <Ann.Lee@x.org>\n" in read(streams | {"__substg1.0_007D001F": wide(said)}).text


@pytest.mark.parametrize("name", ["bob@x.org", "'bob@x.org'", "Bob@X.org"])
def test_who_is_named_by_the_address_is_said_once(name: str) -> None:
    at = "__recip_version1.0_#00000000"
    streams = {
        "__substg1.0_1000001F": wide("Body."),
        f"{at}/__properties_version1.0": fixed((0x0C15, 3, 1))[24:],
        f"{at}/__substg1.0_3001001F": wide(name),
        f"{at}/__substg1.0_39FE001F": wide("bob@x.org"),
    }
    assert "To: bob@x.org\n\nBody." in read(streams).text


def test_the_body_of_a_signed_message_is_read_once_and_its_files_too() -> None:
    signed = (
        b"Content-Type: multipart/signed; boundary=outer\r\n\r\n--outer\r\n"
        b"Content-Type: multipart/mixed; boundary=inner\r\n\r\n--inner\r\n"
        b"Content-Type: text/plain\r\n\r\nThe body, signed.\r\n--inner\r\n"
        b"Content-Type: text/csv; name=table.csv\r\n\r\nName,Amount\r\napple,3\r\n--inner--\r\n--outer\r\n"
        b"Content-Type: application/pkcs7-signature; name=smime.p7s\r\n\r\nxx\r\n--outer--\r\n"
    )
    streams = {
        "__substg1.0_001A001F": wide("IPM.Note.SMIME.MultipartSigned"),
        "__substg1.0_0037001F": wide("Signed"),
        "__attach_version1.0_#00000000/__substg1.0_3707001F": wide("smime.p7m"),
        "__attach_version1.0_#00000000/__substg1.0_37010102": signed,
    }
    found = read(streams | {"__substg1.0_1000001F": wide("The body, signed.")})
    assert found.text.count("The body, signed.") == 1
    assert "Name: apple; Amount: 3" in found.text
    assert "The body, signed." in read(streams).text  # that it has nowhere else
