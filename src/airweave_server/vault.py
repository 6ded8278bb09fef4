"""Seals credentials with authenticated encryption (AES-256-GCM) and opens them. Knows keys, not what they protect."""

import base64
import binascii
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import Unstartable

KEY_BYTES = 32
NONCE_BYTES = 12
KEY_ID_BYTES = 4
FORMAT = b"\x01"


class VaultError(Exception):
    """A sealed value cannot be opened: it has another key or owner, or was changed."""


class Vault:
    """Seals with its first key and opens with any.

    A sealed value is a format byte, the key id, a nonce, and the ciphertext with its tag. The id of its ``owner`` is
    authenticated too, so a value copied to another row does not open there.
    """

    def __init__(self, keys: list[bytes]) -> None:
        self._keys = {_key_id(key): AESGCM(key) for key in keys}
        self.key_id = _key_id(keys[0])
        self.former_key_ids = [key_id for key_id in self._keys if key_id != self.key_id]

    def seal(self, plain: bytes, *, owner: str) -> bytes:
        """Seal with the current key."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._keys[self.key_id].encrypt(nonce, plain, owner.encode())
        return FORMAT + self.key_id + nonce + sealed

    def open(self, sealed: bytes, *, owner: str) -> bytes:
        """Open a sealed value. Raises ``VaultError``, which names the key id that is needed."""
        key_id = self.key_id_of(sealed)
        key = self._keys.get(key_id)
        if sealed[:1] != FORMAT or key is None:
            raise VaultError(f"sealed with key {key_id.hex()}, which is not in VAULT_KEY; add it after the current one")
        start = 1 + KEY_ID_BYTES
        try:
            return key.decrypt(sealed[start : start + NONCE_BYTES], sealed[start + NONCE_BYTES :], owner.encode())
        except InvalidTag:
            raise VaultError(f"sealed with key {key_id.hex()}, but it was changed or belongs elsewhere") from None

    @staticmethod
    def key_id_of(sealed: bytes) -> bytes:
        return sealed[1 : 1 + KEY_ID_BYTES]


def from_setting(value: str) -> Vault:
    """A vault with the keys in VAULT_KEY: base64, separated by commas. Raises ``Unstartable`` for an invalid key."""
    keys = []
    for number, part in enumerate(filter(None, (part.strip() for part in value.split(","))), start=1):
        try:
            key = base64.b64decode(part, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise Unstartable(f"VAULT_KEY: key {number} is not the base64 of {KEY_BYTES} bytes")
        keys.append(key)
    if not keys:
        raise Unstartable("VAULT_KEY is empty; unset it, or set it to the base64 of 32 bytes")
    return Vault(keys)


def from_file(path: Path) -> Vault:
    """A vault with the key in this file, which is created if missing, readable by its owner only. Raises
    ``Unstartable``."""
    with suppress(FileExistsError):
        write_key_file(path, base64.b64encode(os.urandom(KEY_BYTES)).decode())
    try:
        return from_setting(path.read_text())
    except Unstartable:
        raise Unstartable(f"{path} holds no valid key; restore the key file of this data directory") from None


@dataclass(frozen=True)
class Keys:
    """The keys of an installation in the form of VAULT_KEY, and where they are kept. ``ids``: in hex, the current key
    first."""

    text: str = field(repr=False)
    place: str
    ids: tuple[str, ...]


def find_keys(setting: str | None, path: Path) -> Keys | None:
    """The keys that a server with this VAULT_KEY and this key file uses; None if it would create one."""
    if setting is None and not path.exists():
        return None
    vault = from_setting(setting) if setting is not None else from_file(path)
    return Keys(setting or path.read_text().strip(), "VAULT_KEY" if setting is not None else str(path), _ids(vault))


def ids_of(setting: str) -> tuple[str, ...]:
    """The ids of the keys in a VAULT_KEY, in hex. Raises ``Unstartable`` for an invalid key."""
    return _ids(from_setting(setting))


def write_key_file(path: Path, text: str) -> None:
    """Write keys to a new file that only its owner can read. Raises ``FileExistsError``."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())


def _ids(vault: Vault) -> tuple[str, ...]:
    return tuple(key_id.hex() for key_id in (vault.key_id, *vault.former_key_ids))


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"airweave-server key id" + key).digest()[:KEY_ID_BYTES]
