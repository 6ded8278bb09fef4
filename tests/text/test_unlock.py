"""Workbooks that Excel encrypts with its own password: each kind of encryption, undone as it was made."""

import hashlib
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest
import xlwt
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from airweave_server.text.documents import read
from airweave_server.text.parsers import Parsers
from airweave_server.text.parts import Extracted, NoText
from compound import LEAST, compound

AGILE = Path(__file__).parent / "fixtures" / "locked-agile.xlsx"  # made with msoffcrypto-tool
EVERYBODYS = "VelvetSweatshop"
SALT, VERIFIER = bytes(range(16)), bytes(range(16, 32))
OPEN = (0x809, 0x2F, 0x194, 0x195, 0xE1, 0x196, 0x138)


def old_workbook() -> bytes:
    """The stream of a workbook before 2007, long enough for several keys."""
    made = xlwt.Workbook()
    sheet = made.add_sheet("Locked")
    for i in range(300):
        sheet.write(i, 0, f"part {i}")
        sheet.write(i, 1, i + 0.5)
    file = io.BytesIO()
    made.save(file)
    stream = file.getvalue()
    start = stream.index(struct.pack("<HHHH", 0x809, 16, 0x600, 5))
    return stream[start:]


def lock(stream: bytes, said: bytes, hide: Callable[[int, bytes], bytes]) -> bytes:
    """The stream with a record that says how it is encrypted, and its data hidden by ``hide(offset, data)``."""
    offset = 4 + len(said)
    head = 4 + struct.unpack_from("<H", stream, 2)[0]
    kept = bytearray(stream[:head] + struct.pack("<HH", 0x2F, len(said)) + said + stream[head:])
    at = head + offset
    while at + 4 <= len(kept):
        kind, size = struct.unpack_from("<HH", kept, at)
        data = bytes(kept[at + 4 : at + 4 + size])
        hidden = hide(at + 4, data)
        if kind == 0x85:
            place = struct.unpack_from("<I", data)[0] + offset
            hidden = struct.pack("<I", place) + hidden[4:]
        if kind not in OPEN:
            kept[at + 4 : at + 4 + size] = hidden
        at += 4 + size
    return bytes(kept)


def keystream(key: Callable[[int], bytes], size: int) -> bytes:
    blocks = range(-(-size // 1024))
    return b"".join(Cipher(ARC4(key(block)), None).encryptor().update(bytes(1024)) for block in blocks)


def xored(data: bytes, stream: bytes, at: int) -> bytes:
    return bytes(one ^ other for one, other in zip(data, stream[at : at + len(data)], strict=True))


def by_rc4(password: str) -> bytes:
    """As Excel 97 does."""
    short = hashlib.md5(password.encode("utf-16-le")).digest()[:5]
    hashed = hashlib.md5((short + SALT) * 16).digest()[:5]

    def key(block: int) -> bytes:
        return hashlib.md5(hashed + struct.pack("<I", block)).digest()

    first = Cipher(ARC4(key(0)), None).encryptor()
    said = struct.pack("<HHH", 1, 1, 1) + SALT + first.update(VERIFIER) + first.update(hashlib.md5(VERIFIER).digest())
    stream = keystream(key, 100_000)
    return lock(old_workbook(), said, lambda at, data: xored(data, stream, at))


def by_crypto_api(password: str) -> bytes:
    """As Excel 2002 does."""
    hashed = hashlib.sha1(SALT + password.encode("utf-16-le")).digest()

    def key(block: int) -> bytes:
        return hashlib.sha1(hashed + struct.pack("<I", block)).digest()[:16]

    first = Cipher(ARC4(key(0)), None).encryptor()
    said = struct.pack("<HHHI", 1, 2, 2, 4) + header(4, 0x6801) + SALT + first.update(VERIFIER)
    said += struct.pack("<I", 20) + first.update(hashlib.sha1(VERIFIER).digest())
    stream = keystream(key, 100_000)
    return lock(old_workbook(), said, lambda at, data: xored(data, stream, at))


def header(flags: int, algorithm: int) -> bytes:
    name = "Provider\0".encode("utf-16-le")
    size = struct.pack("<I", 32 + len(name))
    return size + struct.pack("<8I", flags, 0, algorithm, 0x8004, 128, 1, 0, 0) + name + struct.pack("<I", 16)


def by_xor(password: str) -> bytes:
    """As Excel 5 does."""
    verifier = 0
    for letter in (password[::-1] + chr(len(password))).encode():
        verifier = (verifier >> 14 & 1 | verifier << 1 & 0x7FFF) ^ letter
    key = b"\x59\xb3"
    pad = [letter ^ key[i % 2] for i, letter in enumerate(password.encode() + b"\xbb")]
    pad = [byte >> 1 | (byte & 1) << 7 for byte in pad]

    def hide(at: int, data: bytes) -> bytes:
        turned = [byte >> 3 | (byte & 7) << 5 for byte in data]
        return bytes(byte ^ pad[(at + len(data) + i) % 16] for i, byte in enumerate(turned))

    return lock(old_workbook(), b"\0\0" + key + struct.pack("<H", verifier ^ 0xCE4B), hide)


def by_aes(password: str) -> bytes:
    """As Excel 2007 does, a whole file."""
    hashed = hashlib.sha1(SALT + password.encode("utf-16-le")).digest()
    for turn in range(50_000):
        hashed = hashlib.sha1(struct.pack("<I", turn) + hashed).digest()
    hashed = hashlib.sha1(hashed + bytes(4)).digest()
    key = hashlib.sha1(bytes(0x36 ^ byte for byte in hashed.ljust(64, b"\0"))).digest()[:16]
    cipher = Cipher(algorithms.AES(key), modes.ECB())
    plain = new_workbook()
    info = struct.pack("<HHI", 3, 2, 0x24) + header(0x24, 0x660E) + SALT + cipher.encryptor().update(VERIFIER)
    info += struct.pack("<I", 20) + cipher.encryptor().update(hashlib.sha1(VERIFIER).digest().ljust(32, b"\0"))
    hidden = struct.pack("<Q", len(plain)) + cipher.encryptor().update(plain.ljust(-(-len(plain) // 16) * 16, b"\0"))
    return compound({"EncryptionInfo": info, "EncryptedPackage": hidden})


def new_workbook() -> bytes:
    made = openpyxl.Workbook()
    sheet = made.active
    assert sheet is not None
    sheet.append(["part 1", 1.5])
    file = io.BytesIO()
    made.save(file)
    return file.getvalue()


OLD = {"rc4": by_rc4, "crypto_api": by_crypto_api, "xor": by_xor}


@pytest.mark.parametrize("kind", OLD)
def test_a_workbook_before_2007_that_excel_opens_for_everybody_is_read(kind: str) -> None:
    found = read(io.BytesIO(compound({"Workbook": OLD[kind](EVERYBODYS)})), filename="a.xls")
    assert isinstance(found, Extracted), found
    lines = found.text.split("\n")
    assert lines[0] == "part 0; 0.5"
    assert lines[299] == "part 299; 299.5"
    assert [section.label for section in found.sections] == ["Sheet Locked"]
    assert not found.left_out


def test_a_workbook_of_2007_that_excel_opens_for_everybody_is_read() -> None:
    found = read(io.BytesIO(by_aes(EVERYBODYS)), filename="a.xlsx")
    assert isinstance(found, Extracted), found
    assert found.text == "part 1; 1.5\n\n"
    assert found.formats == {"xlsx"}


@pytest.mark.usefixtures("scratch")  # the parsers are processes of the server
def test_one_of_2010_is_read_in_the_limited_process() -> None:
    parsers = Parsers(seconds=30.0, memory_mb=400)
    try:
        found = parsers.read([AGILE.read_bytes()], filename="plan.xlsx", beat=lambda: None)
    finally:
        parsers.close()
    assert isinstance(found, Extracted), found
    assert found.text == "part: QX-7781; price: 12.5\n\n"
    assert not found.left_out


def test_one_in_an_archive_is_read() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("plan.xlsx", AGILE.read_bytes())
    found = read(packed, filename="a.zip")
    assert isinstance(found, Extracted), found
    assert [section.label for section in found.sections] == ["plan.xlsx > Sheet Plan"]


@pytest.mark.parametrize("kind", [*OLD, "aes"])
def test_a_password_of_a_person_keeps_it_closed(kind: str) -> None:
    own = "VelvetSweatshoP"
    data = by_aes(own) if kind == "aes" else compound({"Workbook": OLD[kind](own)})
    found = read(io.BytesIO(data), filename="a.xls")
    assert isinstance(found, NoText)
    assert found.reason == "encrypted"


@pytest.mark.parametrize(
    "info",
    [
        b"",
        struct.pack("<HHI", 4, 4, 0x40) + b"<encryption/>",
        struct.pack("<HHI", 4, 4, 0x40)
        + b'<e><keyData/><encryptedKey spinCount="4000000000" saltValue="" hashAlgorithm="SHA512"/></e>',
        struct.pack("<HHI", 3, 2, 0x24) + b"\xff" * 40,
        struct.pack("<HHI", 3, 3, 0x24),
    ],
)
def test_damaged_or_hostile_encryption_is_only_closed(info: bytes) -> None:
    found = read(
        io.BytesIO(compound({"EncryptionInfo": info.ljust(LEAST), "EncryptedPackage": b"\1"})), filename="a.xlsx"
    )
    assert found == NoText("encrypted", frozenset())


def test_a_damaged_record_of_encryption_is_only_closed() -> None:
    for said in (b"", b"\1\0", b"\1\0\1\0\1\0", b"\1\0\2\0\2\0", struct.pack("<HHHII", 1, 2, 2, 4, 0xFFFFFFF0)):
        stream = lock(old_workbook(), said, lambda _, data: data)
        found = read(io.BytesIO(compound({"Workbook": stream})), filename="a.xls")
        assert found == NoText("encrypted", frozenset({"xls"}))
