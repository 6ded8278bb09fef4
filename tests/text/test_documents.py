import gzip
import io
import lzma
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import formats
from airweave_server.sdk import Stopped, Unavailable, Unreadable
from airweave_server.text.extract import SAMPLE_BYTES, detect_format, extract
from airweave_server.text.parsers import Parsers
from airweave_server.text.parts import Extracted, NoText, Unparseable, describe
from airweave_server.text.reading import cut

pytestmark = pytest.mark.usefixtures("scratch")  # the parsers are processes of the server

MB = 1024 * 1024
SECONDS = 20.0
FUZZED = 25  # of each format
BUSY_CPU_S = 1.0  # more than a parser needs to start: it has a document in hand


def nothing() -> None:
    pass


@pytest.fixture(scope="module")
def parsers() -> Iterator[Parsers]:
    made = Parsers(seconds=SECONDS, memory_mb=400)
    yield made
    made.close()


def read(parsers: Parsers, data: bytes, filename: str, beat: Callable[[], None] = nothing) -> Extracted | NoText:
    """What a batch does with a file."""
    form = detect_format(data[:SAMPLE_BYTES], filename=filename)
    if isinstance(form, NoText):
        return form
    if form is None:
        return extract(data, filename=filename)
    return parsers.read([data], filename=filename, beat=beat)


def text_of(parsers: Parsers, data: bytes, filename: str) -> Extracted:
    found = read(parsers, data, filename)
    assert isinstance(found, Extracted), found
    return found


def refused(parsers: Parsers, data: bytes, filename: str = "a.bin") -> str:
    found = read(parsers, data, filename)
    assert isinstance(found, NoText), found
    return found.reason


def sections(found: Extracted) -> list[tuple[str, str]]:
    ends = [section.start for section in found.sections[1:]] + [len(found.text)]
    return [(section.label, found.text[section.start : end]) for section, end in zip(found.sections, ends, strict=True)]


def pids() -> set[int]:
    """Our parser processes."""
    found = set()
    for child in psutil.Process().children():
        try:
            if "airweave_server.text.parser" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.add(child.pid)
        except psutil.Error:
            continue
    return found


def until(done: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("name", formats.FORMATS)
def test_each_format_is_read_with_its_structure(parsers: Parsers, name: str) -> None:
    make, expected = formats.FORMATS[name]
    found = text_of(parsers, make(), name)
    parts = sections(found)
    for label, words in expected:
        assert any(label == own and words in text for own, text in parts), parts
    assert all(one.what == "image" for one in found.left_out)
    assert "".join(text for _, text in parts) == found.text
    for label, text in parts:
        assert any(chunk.text.startswith(text[:20]) and chunk.heading.startswith(label) for chunk in cut(found))


@pytest.mark.parametrize("name", formats.FORMATS)
def test_the_format_is_told_by_content_whatever_the_name(parsers: Parsers, name: str) -> None:
    make, expected = formats.FORMATS[name]
    assert expected[0][1] in text_of(parsers, make(), "unnamed").text or name == "a.csv.gz"


@pytest.mark.parametrize("name", formats.FORMATS)
def test_damaged_files_are_read_or_refused_and_nothing_else(parsers: Parsers, name: str) -> None:
    whole = formats.FORMATS[name][0]()
    chance = random.Random(name)  # seeded: the same files each time
    for number in range(FUZZED):
        data = bytearray(whole)
        if number % 3 == 0:
            del data[chance.randrange(len(data)) :]
        elif number % 3 == 1:
            for _ in range(chance.choice((1, 10, 200))):
                data[chance.randrange(len(data))] = chance.randrange(256)
        else:
            start = chance.randrange(len(data))
            data[start:start] = data[chance.randrange(len(data)) :][: chance.randrange(5_000)]
        try:
            found = read(parsers, bytes(data), name)
        except Unparseable:
            continue
        if isinstance(found, Extracted):
            assert found.text.strip()
            assert not {"\0", "\r"} & set(found.text)
            found.text.encode()


def test_pages_without_text_and_locked_files_say_so(parsers: Parsers) -> None:
    assert refused(parsers, formats.scanned_pdf()) == "no_text_layer"
    assert refused(parsers, formats.pdf([["x"]], password="hush")) == "encrypted"
    assert refused(parsers, formats.compound({"EncryptedPackage": b"x", "EncryptionInfo": b"y"})) == "encrypted"
    assert refused(
        parsers, formats.zipped({"META-INF/MANIFEST.MF": b"", "A.class": b"\xca\xfe\xba\xbe\0\0\0\x34"})
    ) == ("unsupported_format: Java archive")
    assert refused(parsers, formats.zipped({"a.png": b"\x89PNG\r\n\x1a\n"})) == "unsupported_format: PNG image"
    assert refused(parsers, formats.zipped({})) == "no_text"
    locked = bytearray(formats.zipped({"a.txt": b"hush hush"}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + place] |= 1
    assert refused(parsers, bytes(locked)) == "encrypted"


def test_a_sheet_of_a_hundred_thousand_rows_does_not_explode(parsers: Parsers) -> None:
    head = ("Number", "A column with a rather long name, which is repeated")
    rows = [
        f'<row><c t="inlineStr"><is><t>{first}</t></is></c><c t="inlineStr"><is><t>{second}</t></is></c></row>'
        for first, second in [head, *((number, "x") for number in range(100_000))]
    ]
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    sheet = f'<worksheet xmlns="{space}"><sheetData>{"".join(rows)}</sheetData></worksheet>'
    found = text_of(parsers, formats.office_with("xl/worksheets/sheet1.xml", sheet.encode()), "long.xlsx")
    assert len(found.text) < 20_000_000
    assert "Number: 99999" in found.text


def test_what_is_private_stays_private_in_an_archive(parsers: Parsers) -> None:
    members = {
        ".ssh/id_rsa": b"hush",
        "home/.env": b"hush",
        "a/.git/config": b"hush",
        "key.pem": b"hush",
        "a.txt": b"said",
    }
    for data in (formats.zipped(members), formats.tarred(members), formats.email(attached={".env": b"hush"})):
        assert "hush" not in text_of(parsers, data, "a.eml").text


def test_one_rule_for_names_holds_on_every_layer(parsers: Parsers) -> None:
    packed = gzip.compress(b"hush")
    names = ("server.pem.gz", ".netrc.gz", "deep/.git-credentials.gz", "vault.key.GZ", "a\\b\\a.key.xz", "id_work.gz")
    hidden = {name: lzma.compress(b"hush") if name.endswith("xz") else packed for name in names}
    hidden |= {"a.pem ": b"hush", ".netrc~": b"hush", "prod.env": b"hush", "secrets.yml": b"hush", ".ssh.zip": b"hush"}
    members = {**hidden, "a.txt": b"said", "id_map.txt.gz": gzip.compress(b"mapped")}
    inner = formats.zipped(members)
    layers = (
        inner,
        formats.tarred(members),
        gzip.compress(formats.tarred(members)),
        formats.email(attached=members),
        formats.zipped(
            {"inner.zip": inner, "mail.eml": formats.email(attached={"inner.tgz": formats.tarred(members)})}
        ),
    )
    for data in layers:
        found = text_of(parsers, data, "a.eml").text
        assert "hush" not in found
        assert "said" in found
        assert "mapped" in found


def test_a_compressed_file_is_known_by_the_name_it_had(parsers: Parsers) -> None:
    made = io.BytesIO()
    with gzip.GzipFile(filename="home/id_rsa", fileobj=made, mode="wb") as file:
        file.write(b"hush")
    assert refused(parsers, made.getvalue(), "data.gz").startswith("never_read: ")
    assert refused(parsers, formats.zipped({"data.gz": made.getvalue()})).startswith("never_read: ")
    assert refused(parsers, gzip.compress(b"hush"), "server.pem.gz").startswith("never_read: ")
    attached = formats.email(attached={"notes.txt": b"hush"})
    two_names = attached.replace(b"application/octet-stream", b'application/octet-stream; name="id_rsa"')
    assert "hush" in text_of(parsers, attached, "a.eml").text
    assert "hush" not in text_of(parsers, two_names, "a.eml").text


@pytest.mark.fault("F31")
@pytest.mark.parametrize("name", formats.HOSTILE)
def test_bombs_and_mazes_cost_bounded_time_and_memory(parsers: Parsers, name: str) -> None:
    largest = [0]

    def look_at() -> None:
        for pid in pids():
            largest[0] = max(largest[0], psutil.Process(pid).memory_info().rss)

    began_at = time.monotonic()
    try:
        found = parsers.read([formats.HOSTILE[name]()], filename=name, beat=look_at)
    except Unparseable:
        pass
    else:
        assert isinstance(found, NoText) or found.left_out or len(found.text) < 10_000
    assert time.monotonic() - began_at < 3 * SECONDS  # no more than a bound
    assert largest[0] < 450_000_000
    assert not Path("/tmp/slipped.txt").exists()


def test_what_is_left_out_of_an_archive_is_said(parsers: Parsers) -> None:
    found = text_of(
        parsers, formats.zipped({"a.txt": b"words", "b.pdf": b"%PDF-1.4 broken", "c.zip": formats.nested(9)}), "a.zip"
    )
    assert found.text == "words\n\n"
    said = describe(found.left_out)
    assert "b.pdf: it is damaged" in said
    assert "nested too deeply" in said
    cut = text_of(parsers, formats.tarred({"a.txt": b"words", "b.txt": b"more " * 1_000})[:2_500], "a.tar")
    assert cut.text == "words\n\n"
    assert describe(cut.left_out) == "b.txt: it is damaged or cut short; the rest: it is damaged or cut short"
    many = text_of(parsers, formats.zipped({f"{n}.txt": b"x" for n in range(1_500)}), "a.zip")
    assert describe(many.left_out) == "what comes after 1,000 members"
    assert len(many.sections) == 1_000


def hold_up(how: int) -> tuple[Callable[[], None], list[int]]:
    """Send a signal to the process that reads; it is none that was there before."""
    sent: list[int] = []
    others = pids()

    def act() -> None:
        for pid in pids() - set(sent) - others:
            if psutil.Process(pid).cpu_times().user > BUSY_CPU_S:
                os.kill(pid, how)
                sent.append(pid)

    return act, sent


@pytest.fixture
def endless() -> bytes:
    return formats.endless_pdf()


@pytest.mark.fault("F13")
@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_parser_that_dies_costs_its_document_and_no_other(endless: bytes, how: signal.Signals) -> None:
    fresh = Parsers(seconds=SECONDS, memory_mb=400)
    act, sent = hold_up(how)
    with pytest.raises(Unparseable, match=f"ended the parser \\({how.name}\\)"):
        fresh.read([endless], filename="a.pdf", beat=act)
    assert len(sent) == 1
    assert text_of(fresh, formats.word(), "a.docx").text
    with pytest.raises(Unparseable, match=how.name):  # one that read well before gets a second try
        fresh.read([endless], filename="a.pdf", beat=act)
    assert len(sent) == 3
    fresh.close()
    assert not pids() & set(sent)


@pytest.mark.fault("F13")
def test_a_parser_that_hangs_or_never_ends_is_ended(endless: bytes) -> None:
    before = pids()
    brief = Parsers(seconds=2.0, memory_mb=400)
    assert text_of(brief, formats.word(), "a.docx").text  # it is up
    for beat in (nothing, hold_up(signal.SIGSTOP)[0]):
        with pytest.raises(Unparseable, match="takes more than 2 s"):
            brief.read([endless], filename="a.pdf", beat=beat)
        assert len(pids() - before) == 0
        assert text_of(brief, formats.word(), "a.docx").text
    brief.close()


@pytest.mark.fault("F13")
def test_a_document_that_takes_all_memory_is_too_large() -> None:
    narrow = Parsers(seconds=60.0, memory_mb=200)
    book = formats.tarred({"a.txt": b"some words\n" * 4 * MB})
    with pytest.raises(Unparseable, match="more than 200 MB of memory"):
        narrow.read([book], filename="a.tar", beat=nothing)
    assert text_of(narrow, formats.rich_text(), "a.rtf").text
    narrow.close()


def test_a_parse_that_nobody_wants_any_more_is_given_up(endless: bytes) -> None:
    before = pids()
    long = Parsers(seconds=600.0, memory_mb=400)
    beats: list[None] = []

    def stop() -> None:
        beats.append(None)
        if len(beats) > 3:
            raise Stopped("asked to stop")

    with pytest.raises(Stopped):
        long.read([endless], filename="a.pdf", beat=stop)
    assert not pids() - before


def test_at_most_two_processes_read_and_none_stays_idle(parsers: Parsers) -> None:
    parsers.close()
    few = Parsers(seconds=SECONDS, memory_mb=400, idle_s=0.5)
    most, found = [0], []

    def work() -> None:
        for name in ("a.docx", "a.pdf", "a.xlsx", "a.zip"):
            found.append(few.read([formats.FORMATS[name][0]()], filename=name, beat=nothing))
            most[0] = max(most[0], len(pids()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert 1 <= most[0] <= 2
    until(lambda: not pids())
    until(lambda: "parsers" not in {thread.name for thread in threading.enumerate()})
    assert few.read([formats.word()], filename="a.docx", beat=nothing)  # and it goes on
    few.close()


def test_a_parser_knows_no_secret_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VAULT_KEY", "hush")
    monkeypatch.setenv("DATABASE_URL", "hush")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fresh = Parsers(seconds=SECONDS, memory_mb=400)
    seen: list[list[str]] = []
    environments: list[dict[str, str]] = []

    def look_around() -> None:
        seen.append(os.listdir(tmp_path))
        environments.extend(psutil.Process(pid).environ() for pid in pids())

    assert fresh.read([formats.pdf([["words"] * 40] * 2_000)], filename="a.pdf", beat=look_around)
    assert seen
    assert not any(seen)  # the document has no name
    assert environments
    assert not any("hush" in environment.values() for environment in environments)
    assert os.listdir(tmp_path) == []
    fresh.close()


def test_a_parser_ends_with_who_asked_it_even_in_the_midst_of_a_document(endless: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(endless)
    place = tmp_path / "temporary"
    place.mkdir()
    ask = (
        "import sys; from pathlib import Path; from airweave_server.text.parsers import Parsers; "
        "content = [Path(sys.argv[1]).read_bytes()]; "
        "Parsers(seconds=600, memory_mb=400).read(content, filename='a.pdf', beat=lambda: None)"
    )
    asks = subprocess.Popen(
        [sys.executable, "-c", ask, str(tmp_path / "a.pdf")], env={**os.environ, "TMPDIR": str(place)}
    )
    found: list[psutil.Process] = []

    def reads() -> bool:
        found[:] = psutil.Process(asks.pid).children()
        return bool(found) and found[0].cpu_times().user > BUSY_CPU_S

    until(reads, 60)
    asks.kill()
    asks.wait()
    until(lambda: not found[0].is_running() or found[0].status() == psutil.STATUS_ZOMBIE)
    until(lambda: os.listdir(place) == [])


def test_trouble_of_the_source_or_ours_is_not_the_documents(parsers: Parsers, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"%PDF-1.4"
        raise Unreadable("it is gone")

    with pytest.raises(Unreadable):
        parsers.read(breaks(), filename="a.pdf", beat=nothing)
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(Unavailable, match="cannot create a temporary file"):
        parsers.read([b"%PDF-1.4"], filename="a.pdf", beat=nothing)
