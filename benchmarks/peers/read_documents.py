"""Reads documents for one reader: a path a line on standard input, a line of JSON for each on standard output.

Runs in the environment of that reader: imports nothing of this project but, for ``ours``, its reader.
"""

import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = re.compile(r"(\.[A-Za-z]\w{1,4}|(^| > )(Obj\w* ?\d+|MBD[0-9A-F]{8}))( >|$)")  # in the label of a document inside
inside: list[str] = []  # what the last document had of those

Read = Callable[[Path], tuple[str, list[Any]]]
PROJECT = Path(__file__).resolve().parents[2]


def ours() -> Read:
    sys.path.insert(0, str(PROJECT / "src"))
    from airweave_server.text import documents
    from airweave_server.text.parts import Extracted

    documents.load()

    def read(path: Path) -> tuple[str, list[Any]]:
        with path.open("rb") as file:
            found = documents.read(file, filename=path.name)
        if not isinstance(found, Extracted):
            return "", [{"what": found.reason, "count": 1, "where": [], "note": None}]
        ends = [section.start for section in found.sections[1:]] + [len(found.text)]
        inside.extend(
            found.text[section.start : end]
            for section, end in zip(found.sections, ends, strict=True)
            if FILE.search(section.label)
        )
        return found.text, [one.as_json() for one in found.left_out]

    return read


def kreuzberg() -> Read:
    from kreuzberg import ExtractionConfig, extract_file_sync

    config = ExtractionConfig(use_cache=False)
    return lambda path: (extract_file_sync(str(path), config=config).content, [])


def markitdown() -> Read:
    from markitdown import MarkItDown

    converter = MarkItDown(enable_plugins=False)
    return lambda path: (converter.convert(str(path)).markdown, [])


def annotations() -> Read:
    """Not a reader, but a part of the reference: the texts of the annotations of a PDF that pypdf finds."""
    from pypdf import PdfReader

    def read(path: Path) -> tuple[str, list[Any]]:
        found = []
        for page in PdfReader(path).pages:
            for one in page.annotations or ():
                note = one.get_object()
                if note.get("/Subtype") not in ("/Link", "/Widget", "/Popup") and "/Contents" in note:
                    found.append(str(note["/Contents"]))
        return "\n".join(found), []

    return read


def outlook() -> Read:
    """A part of the reference: what extract-msg finds in an Outlook message."""
    import extract_msg

    def told(message: Any) -> list[str]:
        found = [str(getattr(message, name, "") or "") for name in ("subject", "sender", "to", "cc", "body")]
        for one in getattr(message, "attachments", ()):
            if isinstance(one.data, extract_msg.MSGFile):
                found += told(one.data)
        return found

    def read(path: Path) -> tuple[str, list[Any]]:
        message = extract_msg.openMsg(str(path))
        return "\n".join(told(message)), [str(getattr(message, "header", "")), str(message.date)]

    return read


READERS: dict[str, Callable[[], Read]] = {
    one.__name__: one for one in (ours, kreuzberg, markitdown, annotations, outlook)
}


def main() -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print
    warnings.simplefilter("ignore")
    logging.disable()
    read = READERS[sys.argv[1]]()
    for line in sys.stdin:
        inside.clear()
        began = time.perf_counter()
        try:
            text, left_out = read(Path(line.rstrip("\n")))
            error = None
        except Exception as failure:
            text, left_out, error = "", [], f"{type(failure).__name__}: {failure}"[:300]
        seconds = time.perf_counter() - began
        said = {"text": text, "left_out": left_out, "error": error, "seconds": seconds, "inside": inside}
        print(json.dumps(said, ensure_ascii=True), file=out, flush=True)


if __name__ == "__main__":
    main()
