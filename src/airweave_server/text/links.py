"""Files that are a name and a link: Internet shortcuts, those of macOS and Linux, and documents of Google Drive."""

import json
import plistlib
import re
from pathlib import PurePosixPath
from typing import Any

MAX_BYTES = 65_536  # of such a file; a longer one is read as what it is

_URL = re.compile(r"^[ \t]*URL[ \t]*=[ \t]*(\S.*?)[ \t]*$", re.I | re.M)
_NAME = re.compile(r"^[ \t]*Name[ \t]*=[ \t]*(\S.*?)[ \t]*$", re.I | re.M)
_IS_LINK = re.compile(r"^[ \t]*Type[ \t]*=[ \t]*Link\b", re.I | re.M)
_GOOGLE = {
    ".gdoc": "document",
    ".gsheet": "spreadsheets",
    ".gslides": "presentation",
    ".gdraw": "drawings",
    ".gform": "forms",
    ".gdocx": "document",
    ".gmap": "",
    ".gsite": "",
    ".glink": "",
}
_SUFFIXES = frozenset({".url", ".website", ".webloc", ".desktop", *_GOOGLE})


def is_link_name(filename: str) -> bool:
    return _split(filename)[1] in _SUFFIXES


def read_link(data: bytes, text: str | None, *, filename: str) -> str | None:
    """The name and the link, as ``Name: link``; None if it is no such file. ``text``: the same bytes as text, None if
    they are not."""
    name, suffix = _split(filename)
    if suffix not in _SUFFIXES or len(data) > MAX_BYTES:
        return None
    if suffix == ".webloc":
        link = _read_plist(data)
    elif text is None:
        return None
    elif suffix in (".url", ".website"):
        link = _find(_URL, text) if "[internetshortcut]" in text.lower() else None
    elif suffix == ".desktop":
        link = _find(_URL, text) if _IS_LINK.search(text) else None
        name = _find(_NAME, text) or name
    else:
        link = _read_google(text, _GOOGLE[suffix])
    return f"{name}: {link}" if link else None


def _split(filename: str) -> tuple[str, str]:
    path = PurePosixPath(filename.replace("\\", "/"))
    return path.stem, path.suffix.lower()


def _find(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return found[1] if found else None


def _read_plist(data: bytes) -> str | None:
    try:
        value: Any = plistlib.loads(data)
    except Exception:  # the library raises anything on invalid bytes; they are then read as text
        return None
    link = value.get("URL") if isinstance(value, dict) else None
    return link if isinstance(link, str) else None


def _read_google(text: str, kind: str) -> str | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    if isinstance(link := value.get("url"), str) and link:
        return link
    number = value.get("doc_id")
    return f"https://docs.google.com/{kind}/d/{number}" if isinstance(number, str) and number and kind else None
