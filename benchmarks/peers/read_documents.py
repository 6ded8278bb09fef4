"""Reads documents for one reader: a path a line on standard input, a line of JSON for each on standard output.

Runs in the environment of that reader: imports nothing of this project but, for ``ours``, its reader.
"""

import codecs
import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

# In the label of a document inside: the name of a file, of an object, or of its program, such as "Excel.Sheet.8".
FILE = re.compile(r"(\.[A-Za-z]\w{1,4}|(^| > )(Obj\w* ?\d+|MBD[0-9A-F]{8})| > [A-Za-z]\w*\.[A-Za-z]\w*\.\d+)( >|$)")
inside: list[str] = []  # what the last document had of those

FIELDS = ("Subject", "From", "To", "Cc", "Date")  # what we write before the words of a message

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


def losses() -> Read:
    """What ours reads, without a part of its lines; and how many words the check of completeness then finds missing.
    Nothing of a document with others inside, which are counted for themselves."""
    sys.path.insert(0, str(PROJECT / "src"))
    from airweave_server.text import completeness, documents

    documents.load()
    count = completeness.missing_words
    calls: list[tuple[str, list[tuple[str, str]]]] = []

    def note(file: Any, form: str, sections: Any, **options: Any) -> int:
        calls.append((form, list(sections)))
        return count(file, form, sections, **options)

    completeness.missing_words = note

    def read(path: Path) -> tuple[str, list[Any]]:
        calls.clear()
        found = []
        with path.open("rb") as file:
            documents.read(file, filename=path.name)
            for start, share in LOST if len(calls) == 1 else ():
                form, sections = calls[0]
                kept, lost = without(sections, start, share)
                rest = "\n".join(text for _, text in kept)
                found.append({"lost": lost, "kept": rest, "said": count(file, form, kept)})
        return "", found

    return read


LOST = ((0.45, 0.1), (0.2, 0.4))  # where in the text a loss is planted, and its share of the words


def without(sections: list[tuple[str, str]], start: float, share: float) -> tuple[list[tuple[str, str]], str]:
    """The sections without the lines from there on that have this share of the words of all, and those lines."""
    total = sum(len(text.split()) for _, text in sections)
    first, last = start * total, (start + share) * total
    at, kept, lost = 0, [], []
    for label, text in sections:
        lines = []
        for line in text.split("\n"):
            (lost if first <= at < last else lines).append(line)
            at += len(line.split())
        kept.append((label, "\n".join(lines)))
    return kept, "\n".join(lost)


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
    """A part of the reference: what extract-msg finds in an Outlook message; and what a text may hold besides."""
    from email.utils import format_datetime

    import extract_msg

    def once(people: Any) -> str:
        """People as extract-msg tells them; one who is named by the address is one word, and not two."""
        return re.sub(r"""['"]*([^\s'"<>;]+@[^\s'"<>;]+)['"]* <\1>""", r"\1", str(people or ""), flags=re.I)

    def told(message: Any) -> str:
        people = (once(getattr(message, name, "")) for name in ("sender", "to", "cc"))
        return "\n".join([str(message.subject or ""), *people, str(getattr(message, "body", "") or "")])

    def besides(message: Any) -> str:
        groups = (getattr(message, "headerFormatProperties", None) or {}).values()
        found = [*FIELDS, *(f"{name} {said or ''}" for group in groups for name, said in group.items())]
        if message.date:
            found.append(format_datetime(message.date))
        return "\n".join(found)

    def read(path: Path) -> tuple[str, list[Any]]:
        message = extract_msg.openMsg(str(path))
        # Without a code page for its strings they are in that of the internet message; extract-msg takes Latin-9 then.
        codepage = message.getPropertyVal("3FDE0003")
        if codepage and not message.getPropertyVal("3FFD0003") and "0037001E" in str(message.listDir()):
            with suppress(LookupError):
                message = extract_msg.openMsg(str(path), overrideEncoding=codecs.lookup(f"cp{codepage}").name)
        messages = [message]
        for one in messages:  # grows
            messages += [a.data for a in getattr(one, "attachments", ()) if isinstance(a.data, extract_msg.MSGFile)]
        return "\n".join(map(told, messages)), list(map(besides, messages))

    return read


READERS: dict[str, Callable[[], Read]] = {
    one.__name__: one for one in (ours, losses, kreuzberg, markitdown, annotations, outlook)
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
