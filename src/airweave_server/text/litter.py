"""Files that operating systems and programs leave behind, told by their name and their content. Knows no source."""

import re
from collections.abc import Sequence

SMALL_BYTES = 1_024  # lock files are shorter
PREFIX = "litter: "

_FOLDERS = {
    "$recycle.bin": "in the recycle bin of Windows",
    "recycler": "in the recycle bin of Windows",
    "system volume information": "in a folder of Windows",
    "__macosx": "in a folder of macOS",
    ".appledouble": "in a folder of macOS",
    ".documentrevisions-v100": "in a folder of macOS",
    ".fseventsd": "in a folder of macOS",
    ".spotlight-v100": "in a folder of macOS",
    ".temporaryitems": "in a folder of macOS",
    ".trashes": "in the bin of macOS",
    ".thumbnails": "in a folder of previews",
    "@eadir": "in a folder of Synology",
    "#recycle": "in the recycle bin of Synology",
    "@recycle": "in the recycle bin of QNAP",
    ".@__thumb": "in a folder of previews",
    ".dropbox.cache": "in a folder of Dropbox",
    ".tmp.driveupload": "in a folder of Google Drive",
    ".tmp.drivedownload": "in a folder of Google Drive",
    ".stfolder": "in a folder of Syncthing",
    "lost+found": "in a folder of the file system",
}
_NAMES = {
    ".ds_store": "a folder view of macOS",
    ".localized": "a folder mark of macOS",
    ".apdisk": "a folder mark of macOS",
    ".volumeicon.icns": "an icon of macOS",
    ".metadata_never_index": "a folder mark of macOS",
    ".com.apple.timemachine.donotpresent": "a folder mark of macOS",
    "icon\r": "an icon of macOS",
    "pagefile.sys": "memory of Windows",
    "hiberfil.sys": "memory of Windows",
    "swapfile.sys": "memory of Windows",
    ".dropbox": "a mark of Dropbox",
    ".dropbox.attr": "a mark of Dropbox",
    ".picasa.ini": "settings of Picasa",
}
_BINARY_NAMES = {  # a text of this name is a document
    "thumbs.db": "previews of Windows",
    "thumbs.db:encryptable": "previews of Windows",
    "ehthumbs.db": "previews of Windows",
    "ehthumbs_vista.db": "previews of Windows",
    "zbthumbnail.info": "previews of a camera",
}
_PATTERNS = tuple(
    (re.compile(pattern, re.I | re.S), what)
    for pattern, what in (
        (r"\.~lock\..+#", "a lock file of LibreOffice"),
        (r"~wr[a-z]\d{4}\.tmp", "a temporary file of Word"),
        (r"~(?:df|rf)[0-9a-f]{2,16}\.tmp", "a temporary file of Windows"),
        (r"\.nfs[0-9a-f]{16,32}", "a deleted file that is still open"),
        (r"\.fuse_hidden[0-9a-f]{10,32}", "a deleted file that is still open"),
        (r"\.goutputstream-[0-9a-z]{6}", "a temporary file of GNOME"),
        (r"(?:\.syncthing\.|~syncthing~).+\.tmp", "an unfinished transfer"),
        (r".+\.(?:crdownload|opdownload|filepart|!ut|!sync)", "an unfinished download"),
        (r"#.+#", "an autosave of Emacs"),
    )
)
_MAGIC = (
    (b"\0\5\x16\7", "a resource fork of macOS"),
    (b"\0\0\0\1Bud1", "a folder view of macOS"),
    (b"L\0\0\0\1\x14\2\0\0\0\0\0\xc0\0\0\0\0\0\0F", "a link of Windows"),
    (b"book\0\0\0\0mark\0\0\0\0", "a link of macOS"),
    (b"b0VIM ", "a swap file of Vim"),
    (b"CMMM", "previews of Windows"),
)
_OFFICE = re.compile(r"~\$.*\.(?:doc|dot|xls|xlt|xla|ppt|pot|pps|ppa|vsd|pub|mpp|accd|rtf|od)[a-z]?", re.I | re.S)
_ZIPPED = (b"PK\3\4", b"\xd0\xcf\x11\xe0", b"{\\rt", b"%PDF")
_EMACS_LOCK = re.compile(rb"[^\s@]+@[^\s@]+\.\d+(?::\d+)?\s*")
_DESKTOP_INI = re.compile(r"^\[(?:\.ShellClassInfo|ViewState|LocalizedFileNames|DeleteOnCopy)\]", re.I | re.M)
_KDE = re.compile(r"\s*\[(?:Desktop Entry|Dolphin|Settings)\]")


def find_litter(head: bytes, name: str, folders: Sequence[str] = ()) -> str | None:
    """Why a file is litter, None if it is a document. ``head``: its first kilobytes, or all of it if it is shorter.
    ``folders``: the names of those that it is in."""
    what = _in_folder(folders) or _by_content(head, name) or _by_name(head, name)
    return PREFIX + what if what else None


def _in_folder(folders: Sequence[str]) -> str | None:
    return next((_FOLDERS[folder.lower()] for folder in folders if folder.lower() in _FOLDERS), None)


def _by_content(head: bytes, name: str) -> str | None:
    is_text = b"\0" not in head
    for magic, what in _MAGIC:
        if head.startswith(magic) and not is_text:
            return what
    if _OFFICE.fullmatch(name) and len(head) < SMALL_BYTES and not head.startswith(_ZIPPED):
        return "a lock file of Office"
    if name.startswith(".#") and len(head) < SMALL_BYTES and _EMACS_LOCK.fullmatch(head):
        return "a lock file of Emacs"
    lower = name.lower()
    if lower == "desktop.ini" and _DESKTOP_INI.search(_as_ascii(head)):
        return "a folder view of Windows"
    if lower == ".directory" and _KDE.match(_as_ascii(head)):
        return "a folder view of KDE"
    if lower.endswith(".icloud") and head.startswith(b"bplist00"):
        return "a mark of iCloud, which keeps the document elsewhere"
    return None


def _by_name(head: bytes, name: str) -> str | None:
    lower = name.lower()
    if (what := _NAMES.get(lower)) is not None:
        return what
    is_text = head != b"" and b"\0" not in head
    if not is_text:
        if (what := _BINARY_NAMES.get(lower)) is not None:
            return what
        if lower.startswith("._"):
            return "a resource fork of macOS"
        if lower.endswith((".part", ".partial", ".download")):
            return "an unfinished download"
    return next((what for pattern, what in _PATTERNS if pattern.fullmatch(name)), None)


def _as_ascii(head: bytes) -> str:
    """The letters of a short text, in UTF-16 too."""
    return head.replace(b"\0", b"").decode("ascii", "ignore")
