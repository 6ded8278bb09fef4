"""Workbooks that everybody may open although they are encrypted: Excel protects some with a password of its own, and
tries that one before it asks a person ([MS-OFFCRYPTO])."""

import base64
import binascii
import hashlib
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import olefile
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from . import xml
from .biff import BOF, FILE_PASS
from .parts import Unparseable

PASSWORD = "VelvetSweatshop"
MAX_SPINS = 1_000_000  # rounds of hashing; Excel makes 100,000, and a tenth of a second
STANDARD_SPINS = 50_000
SEGMENT_BYTES = 4_096  # of a package, each encrypted for itself
BLOCK_BYTES = 1_024  # of a stream before 2007, each with a key of its own

_PLAIN = (BOF, FILE_PASS, 0x194, 0x195, 0xE1, 0x196, 0x138)  # records that are not encrypted
_SHEET, _OFFSET_BYTES = 0x85, 4  # a record that begins with bytes that are not encrypted
_HASHES = {"SHA1": "sha1", "SHA256": "sha256", "SHA384": "sha384", "SHA512": "sha512"}
_VERIFIER, _VERIFIED, _KEY = (
    b"\xfe\xa7\xd2\x76\x3b\x4b\x9e\x79",
    b"\xd7\xaa\x0f\x6d\x30\x61\x34\x4e",
    b"\x14\x6e\x0b\xe7",
)
_KEY += b"\xab\xac\xd0\xd6"
_AES, _CRYPTO_API = 0x20, 0x04  # flags of a header
_XOR_PADDING = 0xBB
_DAMAGE = (struct.error, ValueError, KeyError, IndexError, binascii.Error, UnsupportedAlgorithm)


def load() -> None:
    """Decrypt something, so that nothing is loaded later."""
    for cipher in (Cipher(algorithms.AES(bytes(16)), modes.CBC(bytes(16))), Cipher(ARC4(bytes(16)), None)):
        cipher.decryptor().update(bytes(16))


def unlock_package(file: olefile.OleFileIO) -> bytes | None:
    """The package that is encrypted in a file of OLE; None if it has another password, or a form that is not read."""
    if not file.exists("EncryptedPackage") or not file.exists("EncryptionInfo"):
        return None
    info = file.openstream("EncryptionInfo").read()
    package = file.openstream("EncryptedPackage").read()
    try:
        major, minor = struct.unpack_from("<HH", info)
        (size,) = struct.unpack_from("<Q", package)
        if (major, minor) == (4, 4):
            found = _unlock_agile(info[8:], package[8:])
        elif minor == 2:
            found = _unlock_standard(info[8:], package[8:])
        else:
            return None
    except (*_DAMAGE, Unparseable):
        return None
    return None if found is None else bytes(memoryview(found)[:size])


def _unlock_standard(info: bytes, package: bytes) -> bytes | None:
    """A package of Excel 2007: AES without chaining."""
    header = _Header.read(info)
    if not header.flags & _AES:
        return None
    hashed = header.hashed()
    for turn in range(STANDARD_SPINS):
        hashed = hashlib.sha1(struct.pack("<I", turn) + hashed).digest()
    hashed = hashlib.sha1(hashed + bytes(4)).digest()
    longer = b"".join(hashlib.sha1(_mask(hashed, byte)).digest() for byte in (0x36, 0x5C))
    cipher = Cipher(algorithms.AES(longer[: header.key_bytes]), modes.ECB())
    if (
        hashlib.sha1(_whole(cipher.decryptor(), header.verifier)).digest()
        != _whole(cipher.decryptor(), header.verified)[:20]
    ):
        return None
    return _whole(cipher.decryptor(), package)


def _mask(hashed: bytes, byte: int) -> bytes:
    return bytes(one ^ byte for one in hashed.ljust(64, b"\0"))


def _whole(cipher: CipherContext, data: bytes) -> bytes:
    """The data decrypted, as far as it makes whole blocks of AES."""
    return cipher.update(data[: len(data) // 16 * 16])


@dataclass(frozen=True, slots=True)
class _Header:
    """How a key is made from a password, and by what to know that it is the right one."""

    flags: int
    key_bytes: int
    salt: bytes
    verifier: bytes
    verified: bytes  # the hash of the verifier

    @classmethod
    def read(cls, data: bytes) -> "_Header":
        (size,) = struct.unpack_from("<I", data)
        flags, _, _, _, key_bits = struct.unpack_from("<5I", data, 4)
        at = 4 + size
        (salt_bytes,) = struct.unpack_from("<I", data, at)
        if salt_bytes != 16 or len(data) < at + 60:
            raise ValueError
        return cls(
            flags, (key_bits or 40) // 8, data[at + 4 : at + 20], data[at + 20 : at + 36], data[at + 40 : at + 72]
        )

    def hashed(self) -> bytes:
        return hashlib.sha1(self.salt + PASSWORD.encode("utf-16-le")).digest()


def _unlock_agile(info: bytes, package: bytes) -> bytes | None:
    """A package of Excel 2010 or later: AES with chaining, a key of its own, and an element that says how."""
    root = xml.tree(io.BytesIO(info))
    data: dict[str, str] = {}
    for node in root.walk():
        if node.local == "keyData":
            data = node.attributes
        elif node.local == "encryptedKey" and (key := _agile_key(node.attributes)) is not None:
            found = bytearray()
            salt = base64.b64decode(data["saltValue"])
            for number, at in enumerate(range(0, len(package), SEGMENT_BYTES)):
                start = _fit(_hash(data, salt + struct.pack("<I", number)), int(data["blockSize"]))
                found += _whole(_chained(data, key, start), package[at : at + SEGMENT_BYTES])
            return bytes(found)
    return None


def _agile_key(said: dict[str, str]) -> bytes | None:
    """The key of the package, None if the password is another."""
    spins = int(said["spinCount"])
    if spins > MAX_SPINS:
        return None
    salt = base64.b64decode(said["saltValue"])
    hashed = _hash(said, salt + PASSWORD.encode("utf-16-le"))
    for turn in range(spins):
        hashed = _hash(said, struct.pack("<I", turn) + hashed)

    def opened(name: str, block: bytes) -> bytes:
        key = _fit(_hash(said, hashed + block), int(said["keyBits"]) // 8)
        return _whole(_chained(said, key, _fit(salt, int(said["blockSize"]))), base64.b64decode(said[name]))

    verifier = opened("encryptedVerifierHashInput", _VERIFIER)[: int(said["saltSize"])]
    verified = opened("encryptedVerifierHashValue", _VERIFIED)[: int(said["hashSize"])]
    if _hash(said, verifier) != verified:
        return None
    return opened("encryptedKeyValue", _KEY)[: int(said["keyBits"]) // 8]


def _hash(said: dict[str, str], data: bytes) -> bytes:
    return hashlib.new(_HASHES[said["hashAlgorithm"].replace("-", "")], data).digest()


def _chained(said: dict[str, str], key: bytes, start: bytes) -> CipherContext:
    if said["cipherAlgorithm"] != "AES" or said["cipherChaining"] != "ChainingModeCBC":
        raise ValueError
    return Cipher(algorithms.AES(key), modes.CBC(start)).decryptor()


def _fit(data: bytes, size: int) -> bytes:
    if not 0 < size <= 64:
        raise ValueError
    return data[:size].ljust(size, b"\x36")


# Files before 2007


def unlock_stream(stream: bytes) -> bytes | None:
    """The stream of a workbook before 2007 without its encryption; None if it has another password, or a form that is
    not read."""
    records = list(_heads(stream))
    for kind, at, size in records:
        if kind == FILE_PASS:
            said = stream[at : at + size]
            try:
                plain = (
                    _unlock_xor(said[-4:], stream, records)
                    if size == 4 or said[:2] == b"\0\0"
                    else _unlock_rc4(said[2:], stream)
                )
            except _DAMAGE:
                return None
            return None if plain is None else _restore(plain, stream, records)
    return None


Records = list[tuple[int, int, int]]  # of each record: its kind, where its data begins, and their size


def _heads(stream: bytes) -> Iterator[tuple[int, int, int]]:
    at = 0
    while at + 4 <= len(stream):
        kind, size = struct.unpack_from("<HH", stream, at)
        yield kind, at + 4, size
        at += 4 + size


def _restore(plain: bytes | bytearray, stream: bytes, records: Records) -> bytes:
    """Put back what was not encrypted: heads of records, and some records."""
    found = bytearray(plain)
    for kind, at, size in records:
        kept = size if kind in _PLAIN else _OFFSET_BYTES if kind == _SHEET else 0
        found[at - 4 : at + kept] = stream[at - 4 : at + kept]
        if kind == FILE_PASS:
            found[at - 4 : at - 2] = bytes(2)  # a kind that says nothing
    return bytes(found)


def _unlock_rc4(said: bytes, stream: bytes) -> bytes | None:
    major, minor = struct.unpack_from("<HH", said)
    if (major, minor) == (1, 1):
        salt, verifier, verified = said[4:20], said[20:36], said[36:52]
        hashed = hashlib.md5(PASSWORD.encode("utf-16-le"), usedforsecurity=False).digest()[:5]
        hashed = hashlib.md5((hashed + salt) * 16, usedforsecurity=False).digest()[:5]
        make, size = hashlib.md5, 16
    elif minor == 2:
        header = _Header.read(said[8:])
        if not header.flags & _CRYPTO_API or header.flags & _AES:
            return None
        verifier, verified, hashed = header.verifier, header.verified[:20], header.hashed()
        make, size = hashlib.sha1, header.key_bytes
    else:
        return None

    def cipher(number: int) -> CipherContext:
        key = make(hashed + struct.pack("<I", number), usedforsecurity=False).digest()[:size]
        return Cipher(ARC4(key.ljust(16, b"\0") if size == 5 else key), None).decryptor()

    first = cipher(0)
    if make(first.update(verifier), usedforsecurity=False).digest() != first.update(verified):
        return None
    return b"".join(
        cipher(number).update(stream[at : at + BLOCK_BYTES])
        for number, at in enumerate(range(0, len(stream), BLOCK_BYTES))
    )


def _unlock_xor(said: bytes, stream: bytes, records: Records) -> bytearray | None:
    key, verifier = said[:2], int.from_bytes(said[2:], "little")
    password = PASSWORD.encode()
    found = 0
    for byte in reversed(bytes([len(password)]) + password):
        found = (found >> 14 & 1 | found << 1 & 0x7FFF) ^ byte
    if found ^ 0xCE4B != verifier:
        return None
    pad = [_rotated(byte ^ key[at & 1], 7) for at, byte in enumerate(password + bytes([_XOR_PADDING]))]
    tables = [bytes(_rotated(byte ^ one, 3) for byte in range(256)) for one in pad]
    plain = bytearray(stream)
    for _, at, size in records:
        for place in range(min(16, size)):
            part = slice(at + place, at + size, 16)
            plain[part] = plain[part].translate(tables[(at + size + place) % 16])
    return plain


def _rotated(byte: int, left: int) -> int:
    return (byte << left | byte >> (8 - left)) & 0xFF
