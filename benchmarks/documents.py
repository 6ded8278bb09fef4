"""What readers find of real documents: recall, precision and order of words, beside two others, and the speed."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from . import environments, fixtures, likeness, office, reference
from .fixtures import CACHE, Document
from .lab import Lab
from .likeness import Bag, Likeness, bag, compare, order, words
from .reference import FLAT, Reference
from .report import Table, number
from .server import Unfit

READER = Path(__file__).parent / "peers/read_documents.py"
VENV = "documents"
PINS = {
    "kreuzberg": "4.10.4",
    "markitdown": "0.1.9",
    "mammoth": "1.13.0",
    "pdfminer.six": "20260107",
    "pdfplumber": "0.11.10",
    "python-pptx": "1.0.2",
    "openpyxl": "3.1.5",
    "pandas": "3.1.1",
    "xlrd": "2.0.2",
    "olefile": "0.47",
    "lxml": "6.1.3",
    "pypdf": "7.1.1",
    "extract-msg": "0.57.0",
}
OURS, PEERS = "ours", ("kreuzberg", "markitdown")
READ_S = 60.0
MOST_ENDED = 5  # documents one after another that end a reader, or take it too long
LOW = 0.97  # of a file's words: below it a file is listed
WHOLE = 0.995  # from it a file is whole
LEAST_LOST = 50  # words: a smaller loss is not planted
QUICK = 2  # documents of each format
PAGES, COPIES, KINDS = 20, 1_000, 20  # of the documents for the speed
ORDER = ("docx", "odt", "rtf", "doc", "pptx", "odp", "ppt", "xlsx", "ods", "xls", "pdf", "eml", "mbox", "msg", "epub")
HARMLESS = ("encoding", "image")  # left out, but no words
DETAILS = environments.ENVIRONMENTS / "documents.md"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader said of a document."""

    text: str = ""
    left_out: Sequence[dict[str, Any]] = ()
    error: str | None = None
    seconds: float = 0.0
    inside: Sequence[str] = ()  # texts of documents inside, which the reference readers do not open


@dataclass(slots=True)
class Score:
    """Sums over the documents of a format for one reader."""

    found: int = 0
    expected: int = 0
    excused: int = 0  # of the words that are missing, those that ``left_out`` says
    right: int = 0
    written: int = 0
    in_order: int = 0
    present: int = 0
    files: int = 0
    low: list[str] = field(default_factory=list)

    def add(self, name: str, likeness: Likeness, ordered: tuple[int, int], excused: int) -> None:
        self.files += 1
        self.found += likeness.found
        self.expected += likeness.expected
        self.right += likeness.right
        self.written += likeness.written
        self.excused += excused
        self.in_order += ordered[0]
        self.present += ordered[1]
        if likeness.recall < LOW:
            self.low.append(name)

    def recall(self) -> str:
        return _percent(self.found, self.expected)

    def recall_said(self) -> str:
        return _percent(self.found + self.excused, self.expected)

    def precision(self) -> str:
        return _percent(self.right, self.written)

    def order(self) -> str:
        return _percent(self.in_order, self.present)


class Reader:
    """A process that reads documents one after another. One that is stuck or dies is replaced."""

    def __init__(self, name: str, python: Path | str) -> None:
        self._command = [str(python), str(READER), name]
        self._process: subprocess.Popen[str] | None = None
        self._ended = 0  # how many times one after another

    def read(self, path: Path) -> Answer:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                start_new_session=True,
                env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(READ_S, self._kill)
        timer.start()
        try:
            self._process.stdin.write(f"{path}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        self._ended = 0 if line.endswith("\n") else self._ended + 1
        if self._ended:
            self.close()
            if self._ended > MOST_ENDED:
                raise Unfit(f"the reader {self._command[-1]} ends at each document")
            return Answer(error=f"ended, or not done after {READ_S:.0f} s")
        return Answer(**json.loads(line))

    def close(self) -> None:
        self._kill()
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def _kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def run(lab: Lab) -> list[Table]:
    environments.install(VENV, PINS, lab.say)
    documents = fixtures.fetch(fixtures.load(), lab.say)
    if lab.quick:
        documents = [one for found in fixtures.by_form(documents).values() for one in found[:QUICK]]
    references = _references(documents, lab.say)
    answers = {name: _answers(name, documents, lab.say) for name in (OURS, *PEERS)}
    tables = _likeness(documents, references, answers)
    return [*tables, _losses(documents, references, answers[OURS], lab.say), _speed(lab)]


# The reference


def _references(documents: Sequence[Document], say: Callable[[str], None]) -> dict[str, Reference]:
    """What the reference readers find, by the digest of a document. Kept as long as they are the same: it takes
    minutes."""
    modules = (office, reference, likeness, sys.modules[__name__])
    code = b"".join([*(Path(module.__file__ or "").read_bytes() for module in modules), READER.read_bytes()])
    folder = CACHE / "references" / hashlib.sha256(code).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    missing = [one for one in documents if not (folder / f"{one.digest}.json").is_file()]
    if missing:
        say(f"reading {len(missing)} documents by the reference readers")
        _convert(missing)
        python = environments.python(VENV)
        with (
            closing(Reader("annotations", python)) as annotations,
            closing(Reader("outlook", python)) as outlook,
        ):
            for one in missing:
                found = _refer(one, annotations, outlook)
                (folder / f"{one.digest}.json").write_text(reference.as_json(found))
    return {one.name: reference.from_json((folder / f"{one.digest}.json").read_text()) for one in documents}


def _convert(documents: Sequence[Document]) -> None:
    """Keep LibreOffice's conversions, and for what lists show beside their text, its text export."""
    for to in ("fodt", "fodp", "fods", "txt:Text"):
        ending = to.partition(":")[0]
        folder = CACHE / ending
        folder.mkdir(parents=True, exist_ok=True)
        wanted = [
            one
            for one in documents
            if (FLAT.get(one.form) == to or (ending == "txt" and FLAT.get(one.form) == "fodt"))
            and not (folder / f"{one.digest}.{ending}").is_file()
        ]
        made = reference.convert(
            [one.path for one in wanted], to, CACHE / f"converting-{ending}", CACHE / "libreoffice"
        )
        for one in wanted:
            kept = folder / f"{one.digest}.{ending}"
            if one.path in made:
                made[one.path].replace(kept)
            else:
                kept.touch()  # not tried again


def _refer(document: Document, annotations: Reader, outlook: Reader) -> Reference:
    path, form = document.path, document.form
    attempts: list[tuple[str, Callable[[], Reference]]] = []
    if form in FLAT:
        attempts.append(
            ("LibreOffice", lambda: office.read_flat(CACHE / FLAT[form] / f"{document.digest}.{FLAT[form]}", form))
        )
    if form in ("docx", "pptx", "xlsx"):
        attempts.append(("walk", lambda: office.read_openxml(path, form)))
    elif form in ("odt", "odp", "ods"):
        attempts.append(("walk", lambda: office.read_opendocument(path, form)))
    elif form == "pdf":
        attempts.append(("pdftotext", lambda: reference.read_pdf(path, annotations.read(path).text)))
    elif form == "epub":
        attempts.append(("walk", lambda: reference.read_epub(path)))
    elif form in ("eml", "mbox"):
        attempts.append(("email", lambda: reference.read_mail(path)))
    elif form == "msg":
        attempts.append(("extract-msg", lambda: _refer_outlook(outlook.read(path))))
    found = Reference()
    for reader, attempt in attempts:
        try:
            found |= attempt()
        except Exception as error:
            found |= Reference(failed=(f"{reader}: {type(error).__name__}",))
    if form == "xls":
        found = _with_boxes(found, path, CACHE / "fods" / f"{document.digest}.fods")
    exported = CACHE / "txt" / f"{document.digest}.txt"
    if exported.is_file() and exported.stat().st_size:
        found |= Reference(allowed=Counter(words(exported.read_text(encoding="utf-8-sig", errors="replace"))))
    return found


def _with_boxes(found: Reference, path: Path, flat: Path) -> Reference:
    """The same with the boxes and comments that LibreOffice lost."""
    if "LibreOffice" not in found.readers:
        return found
    held = " ".join(words(" ".join(ElementTree.parse(flat).getroot().itertext())))
    lost = Counter(word for box in office.read_boxes(path) if " ".join(words(box)) not in held for word in words(box))
    required = Bag(found.required.words + lost, found.required.either)
    return replace(found, required=required, allowed=found.allowed + lost, readers=(*found.readers, "walk over boxes"))


def _refer_outlook(answer: Answer) -> Reference:
    return reference.read_text(answer.text, "extract-msg", "\n".join(map(str, answer.left_out)))


# The readers


def _answers(name: str, documents: Sequence[Document], say: Callable[[str], None]) -> dict[str, Answer]:
    """What a reader says of each document. Answers of the peers, whose versions are pinned, are kept."""
    say(f"{name} reads {len(documents)} documents")
    folder = CACHE / "answers" / name
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Answer] = {}
    python = sys.executable if name == OURS else environments.python(VENV)
    with closing(Reader(name, python)) as reader:
        for one in documents:
            kept = folder / f"{one.digest}.json"
            if name != OURS and kept.is_file():
                found[one.name] = Answer(**json.loads(kept.read_text()))
                continue
            answer = found[one.name] = reader.read(one.path)
            kept.write_text(json.dumps(asdict(answer)))
    return found


def _likeness(
    documents: Sequence[Document], references: dict[str, Reference], answers: dict[str, dict[str, Answer]]
) -> list[Table]:
    readers = (OURS, *PEERS)
    scores: dict[tuple[str, str, str], Score] = {}
    unread: list[str] = []
    empty = Counter[str]()
    details: list[tuple[str, float, str]] = []
    for one in documents:
        expected = references[one.name]
        if not expected.readers or expected.failed:
            unread.append(f"{one.name} ({', '.join(expected.failed) or 'no reader'})")
        if not expected.required.words:
            empty[one.form] += 1
            continue
        half = "judged" if one.is_judged else "seen"
        for reader in readers:
            answer = answers[reader][one.name]
            inside = Counter(words("\n".join(answer.inside)))
            likeness = _compare(expected, answer.text, one.form, inside)
            ordered = order(expected.paragraphs, words(answer.text))
            excused = _excused(answer, likeness)
            for part in ("all", half):
                scores.setdefault((part, one.form, reader), Score()).add(one.name, likeness, ordered, excused)
            if reader == OURS and half == "seen":
                details.append((one.form, likeness.recall, _detail(one, likeness, ordered, answer, expected)))
    forms = [form for form in ORDER if ("all", form, OURS) in scores]
    _write_details(details)
    table = Table(
        "10. What is found of real documents",
        (
            "format",
            "files",
            "recall",
            "with what is said",
            "precision",
            "order",
            "files under 97 %",
            *(f"{peer}: {figure}" for peer in PEERS for figure in ("recall", "precision", "order")),
        ),
    )
    halves = Table(
        "The judged half and the seen half",
        (
            "format",
            *(
                f"{half}: {figure}"
                for half in ("judged", "seen")
                for figure in ("files", "recall", "precision", "order", "under 97 %")
            ),
        ),
    )
    {reader: Score() for reader in readers}
    for form in forms:
        ours = scores["all", form, OURS]
        cells = [
            form,
            str(ours.files),
            ours.recall(),
            ours.recall_said(),
            ours.precision(),
            ours.order(),
            str(len(ours.low)),
        ]
        for peer in PEERS:
            theirs = scores["all", form, peer]
            cells += [theirs.recall(), theirs.precision(), theirs.order()]
        table.add(*cells)
        cells = [form]
        for half in ("judged", "seen"):
            one_half = scores.get((half, form, OURS), Score())
            cells += [
                str(one_half.files),
                one_half.recall(),
                one_half.precision(),
                one_half.order(),
                str(len(one_half.low)),
            ]
        halves.add(*cells)
    low = [name for form in forms for name in scores["all", form, OURS].low]
    files = sum(scores["all", form, OURS].files for form in forms)
    table.notes.append(f"{files} files with words in them, {sum(empty.values())} without; {len(low)} under 97 %.")
    table.notes.extend(f"Under 97 %: {name}" for name in low)
    table.notes.extend(f"A reference reader cannot read {name}" for name in unread)
    return [table, halves]


def _compare(expected: Reference, text: str, form: str, inside: Counter[str]) -> Likeness:
    """Of sheets, the name of a column, which may stand before each of its values, counts once for the precision."""
    found = bag(text)
    likeness = compare(expected.required, found, expected.allowed + inside)
    if FLAT.get(form) != "fods":
        return likeness
    for label, count in Counter(_LABEL.findall(text)).items():
        for word in words(label):
            found.words[word] -= count - 1
    once = compare(expected.required, Bag(+found.words, found.either), expected.allowed + inside)
    return replace(likeness, right=once.right, written=once.written, surplus=once.surplus)


_LABEL = re.compile(r"(?:^|(?<=; ))([^:;\n|]{1,120}): ", re.M)


def _excused(answer: Answer, likeness: Likeness) -> int:
    """How many of the missing words the ledger says are missing."""
    missing = likeness.expected - likeness.found
    said: int = sum(one["count"] for one in answer.left_out if one["what"] == "words")
    if any(one["what"] not in (*HARMLESS, "words") for one in answer.left_out):
        return missing
    return min(missing, said)


def _detail(one: Document, likeness: Likeness, ordered: tuple[int, int], answer: Answer, expected: Reference) -> str:
    in_order, present = ordered
    said = "; ".join(f"{left['what']} {left['count']}" for left in answer.left_out)
    return (
        f"* recall {likeness.recall:.2%} of {likeness.expected}, "
        f"precision {likeness.precision:.2%} of {likeness.written}, "
        f"order {_percent(in_order, present)}: **{one.name}** (`{one.path.name}`)"
        + (f" — left out: {said}" if said else "")
        + (f" — ERROR {answer.error}" if answer.error else "")
        + (f"\n    * missing: {_examples(likeness.missing)}" if likeness.missing else "")
        + (f"\n    * surplus: {_examples(likeness.surplus)}" if likeness.surplus else "")
    )


def _examples(found: Sequence[tuple[str, int]]) -> str:
    return " ".join(f"{word[:40]}×{count}" if count > 1 else word[:40] for word, count in found[:25])


def _write_details(details: Sequence[tuple[str, float, str]]) -> None:
    lines = ["# Worst files first, per format (the half that may be looked at)", ""]
    for form in ORDER:
        found = sorted((one for one in details if one[0] == form), key=lambda one: one[1])
        if found:
            lines += [f"## {form}", "", *(text for _, _, text in found), ""]
    DETAILS.write_text("\n".join(lines), encoding="utf-8")


# The check of completeness


_RAW = re.compile(r" \((-?[\d.]+(?:E[-+]?\d+)?|\d{4}-\d\d-\d\d[^()]{0,20})\)")


def _losses(
    documents: Sequence[Document],
    references: dict[str, Reference],
    answers: dict[str, Answer],
    say: Callable[[str], None],
) -> Table:
    """How many words the check says are missing, of documents that are whole for the reference readers, and of the same
    without a part of their lines. The truth is how many words that part has that the reference has or allows, without
    the values behind rounded numbers; the name of a column, which stands before each of its values, counts once, and
    only if no value is left that it stands before."""
    say("losses are planted")
    table = Table(
        "Losses that are planted, and what the check of completeness says",
        ("format", "whole files", "of them say so", "losses", "within 10 %", "words lost", "words said"),
    )
    counts: dict[str, Counter[str]] = {}
    notes: list[str] = []
    with closing(Reader("losses", sys.executable)) as reader:
        for one in documents:
            expected, answer = references[one.name], answers[one.name]
            whole = _compare(expected, answer.text, one.form, Counter())
            if whole.expected < LEAST_LOST or whole.recall < WHOLE or answer.inside:
                continue
            count = counts.setdefault(one.form, Counter())
            count["files"] += 1
            count["false"] += any(left["what"] == "words" for left in answer.left_out)
            for planted in reader.read(one.path).left_out:
                text = planted["lost"]
                if FLAT.get(one.form) == "fods":
                    names = set(_LABEL.findall(text)) - set(_LABEL.findall(planted["kept"]))
                    text = "\n".join((_RAW.sub("", _LABEL.sub("", text)), *names))
                lost = (Counter(words(text)) & (expected.required.words | expected.allowed)).total()
                if lost < LEAST_LOST:
                    continue
                count["losses"] += 1
                count["lost"] += lost
                count["said"] += planted["said"]
                if abs(planted["said"] - lost) <= lost / 10:
                    count["right"] += 1
                else:
                    notes.append(f"{one.name}: {lost} words lost, {planted['said']} said")
    for form in (form for form in ORDER if form in counts):
        count = counts[form]
        cells = (count["files"], count["false"], count["losses"])
        right = _percent(count["right"], count["losses"])
        table.add(form, *map(str, cells), right, str(count["lost"]), str(count["said"]))
    total = sum(counts.values(), Counter[str]())
    table.notes.append(
        f"{total['false']} of {total['files']} files that are whole say that words are missing "
        f"({_percent(total['false'], total['files'])}); {total['right']} of {total['losses']} losses are counted "
        f"within 10 % ({_percent(total['right'], total['losses'])})."
    )
    table.notes.extend(f"Counted otherwise: {note}" for note in notes)
    return table


# The speed


def _speed(lab: Lab) -> Table:
    copies, kinds = (KINDS, KINDS) if lab.quick else (COPIES, KINDS)
    table = Table(f"{copies:,} documents (.docx) of {PAGES} pages", ("reader", "s", "documents/s", "times kreuzberg"))
    paths = [lab.place / f"{kind}.docx" for kind in range(kinds)]
    for seed, path in enumerate(paths):
        write_docx(path, seed)
    seconds = {}
    for name in ("kreuzberg", OURS):
        lab.say(f"{name} reads {copies:,} documents of {PAGES} pages")
        with closing(Reader(name, sys.executable if name == OURS else environments.python(VENV))) as reader:
            reader.read(paths[0])  # loads what it needs
            answers = [reader.read(paths[turn % kinds]) for turn in range(copies)]
        if any(one.error or not one.text for one in answers):
            raise Unfit(f"{name} did not read a document")
        seconds[name] = sum(one.seconds for one in answers)
    for name, spent in seconds.items():
        table.add(name, number(spent, 2), number(copies / spent), number(spent / seconds["kreuzberg"], 2))
    table.notes.append(
        f"{paths[0].stat().st_size / 1000:,.0f} kB each as a file; by the clock of the reading process, one by one."
    )
    return table


def write_docx(path: Path, seed: int) -> None:
    """A document of 20 pages: headings, paragraphs with bold words and links, lists and tables."""
    chance = random.Random(seed)
    vocabulary = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 11))) for _ in range(4_000)]

    def run_of(count: int, properties: str = "") -> str:
        return (
            f'<w:r>{properties}<w:t xml:space="preserve">{" ".join(chance.choices(vocabulary, k=count))} </w:t></w:r>'
        )

    def paragraph(style: str, *runs: str) -> str:
        return f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr>{"".join(runs)}</w:p>'

    bold = '<w:rPr><w:b/><w:sz w:val="22"/></w:rPr>'
    parts = []
    for _ in range(PAGES):
        parts.append(paragraph("Heading1", run_of(5)))
        for _ in range(5):
            parts.append(paragraph("Normal", run_of(40), run_of(3, bold), run_of(30), run_of(2, bold), run_of(10)))
        for _ in range(5):
            parts.append(paragraph("ListBullet", run_of(8), run_of(2, bold)))
        row = "".join(f"<w:tc>{paragraph('Normal', run_of(3))}</w:tc>" for _ in range(4))
        parts.append(f"<w:tbl>{f'<w:tr>{row}</w:tr>' * 6}</w:tbl>")
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/word/document.xml" ContentType="{main}"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" '
            f'Type="{office}/officeDocument" Target="word/document.xml"/></Relationships>',
        )
        archive.writestr(
            "word/document.xml", f'<w:document xmlns:w="{word}"><w:body>{"".join(parts)}</w:body></w:document>'
        )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "-"
