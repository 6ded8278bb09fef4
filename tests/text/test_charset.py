"""Bytes to characters: short texts in many encodings, what declares its encoding, and what is a guess."""

import codecs

import pytest

from airweave_server.text.charset import Decoded, decode
from airweave_server.text.extract import extract
from airweave_server.text.parts import Extracted, LeftOut

SHORT = {
    "ja": ("会議の議事録を送ります。来週の予定も確認してください。", "shift_jis euc_jp iso2022_jp"),
    "ja katakana": ("ﾃｽﾄﾃﾞｰﾀ ｶﾌﾞｼｷｶﾞｲｼｬ", "shift_jis"),
    "ko": ("회의록을 보내 드립니다. 다음 주 일정도 확인해 주세요.", "euc_kr cp949 iso2022_kr"),
    "zh": ("请查看附件中的会议记录，并确认下周的安排。", "gb18030 gb2312 hz"),
    "zh traditional": ("請查看附件中的會議記錄，並確認下週的安排。", "big5"),
    "de": ("Die Prüfung der Geräte für März ist abgeschlossen.", "latin-1 cp1252 cp850 mac_roman iso8859-15"),
    "fr": ("Le procès-verbal de la réunion sera envoyé à l'équipe.", "latin-1 cp850 mac_roman iso8859-15"),
    "es": ("La reunión de mañana será más corta, según el señor Núñez.", "cp1252 cp850"),
    "pl": ("Proszę przesłać protokół ze środowego spotkania zarządu.", "cp1250 iso8859-2 cp852"),
    "cs": ("Zápis z porady najdete v příloze, děkuji za připomínky.", "cp1250 iso8859-2"),
    "hu": ("A jegyzőkönyvet csütörtökig küldjük, kérjük a véleményüket.", "cp1250 iso8859-2"),
    "lt": ("Susitikimo protokolą išsiųsime ketvirtadienį, prašome peržiūrėti.", "cp1257"),
    "lv": ("Sanāksmes protokolu nosūtīsim ceturtdien, lūdzam pārskatīt.", "cp1257"),
    "tr": ("Toplantı tutanağını perşembe günü göndereceğiz, teşekkürler.", "cp1254"),
    "ru": ("Протокол совещания отправим в четверг, просим проверить.", "cp1251 koi8_r cp866 iso8859-5"),
    "uk": ("Протокол наради надішлемо у четвер, просимо її перевірити, є зміни.", "cp1251 koi8_u"),
    "el": ("Θα στείλουμε τα πρακτικά της συνεδρίασης την Πέμπτη.", "cp1253 iso8859-7"),
    "he": ("נשלח את הפרוטוקול של הישיבה ביום חמישי.", "cp1255"),
    "ar": ("سنرسل محضر الاجتماع يوم الخميس للمراجعة.", "cp1256"),
    "th": ("เราจะส่งรายงานการประชุมในวันพฤหัสบดี", "tis_620 cp874"),
}
CASES = [(text, encoding) for text, encodings in SHORT.values() for encoding in encodings.split()]


@pytest.mark.parametrize(("text", "encoding"), CASES, ids=[f"{encoding}-{n}" for n, (_, encoding) in enumerate(CASES)])
def test_one_line_is_read_in_its_encoding(text: str, encoding: str) -> None:
    found = decode(text.encode(encoding))
    assert found is not None
    assert found.text == text


DECLARED = {
    "xml": ('<?xml version="1.0" encoding="iso-8859-2"?>\n<a>ąę</a>', "iso8859-2"),
    "page": ('<meta http-equiv="Content-Type" content="text/html; charset=windows-1257">ąę', "cp1257"),
    "style": ('@charset "iso-8859-15";\na { content: "€" }', "iso8859-15"),
    "python": ("# -*- coding: koi8-r -*-\nx = 'да'\n", "koi8-r"),
    "vim": ("# x\n" * 900 + "ß\n# vim: set fileencoding=cp850 :\n", "cp850"),
    "latex": ("\\documentclass{article}\n\\usepackage[applemac]{inputenc}\nß", "mac_roman"),
    "latex on Windows": ("\\usepackage[ansinew]{inputenc}\n„ß“", "cp1252"),
    "a page called Latin-1 with characters of Windows": ('<meta charset="iso-8859-1">„ß“ €', "cp1252"),
    "a page in the Japanese of Windows": ('<meta charset="Shift_JIS">①㈱', "cp932"),
    "an old mail": ("Content-Type: text/plain; charset=utf-7\n\nGrüße 1 + 1", "utf-7"),
}


@pytest.mark.parametrize(("text", "encoding"), DECLARED.values(), ids=DECLARED)
def test_a_declared_encoding_is_believed(text: str, encoding: str) -> None:
    found = decode(text.encode(encoding))
    assert found is not None
    assert (found.text, found.is_sure) == (text, True)
    assert codecs.lookup(found.encoding) == codecs.lookup(encoding)


def test_a_declaration_that_cannot_be_is_not() -> None:
    text = '<meta charset="shift_jis">' + "Protokół ze środowego spotkania zarządu, proszę przesłać. " * 9
    assert decode(text.encode("cp1250")).text == text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text", ['(format t "~{~a~^, ~}" x)', "~{abcd~}", "cost ~{12}", "\x1b$x is no Japanese", "1 +AOQ- 2", "plain"]
)
def test_ascii_is_not_taken_for_anything_else(text: str) -> None:
    assert decode(text.encode()) == Decoded(text, "utf-8")


def test_utf8_is_never_touched() -> None:
    for text in ("é", "À la carte ÃƒÂ©", "日本語", "à" * 1_000, "Ð¡Ñ‚Ð°"):
        found = decode(text.encode())
        assert found is not None
        assert (found.text, found.encoding, found.is_sure) == (text, "utf-8", True)


def test_a_guess_without_confidence_is_said_and_nothing_is_called_missing() -> None:
    for data in (b"caf\xe9", b"\xb1\xb2 A4", b"x\xa7", "会議室予約".encode("euc_jp")):
        found = extract(data, filename="a.txt")
        assert isinstance(found, Extracted)
        (said,) = found.left_out
        assert said.what == "encoding"
        assert said.note.startswith("the encoding is a guess: ")
    long = "Протокол совещания отправим в четверг, просим проверить.\n" * 3
    sure = extract(long.encode("cp1251"), filename="a.txt")
    assert isinstance(sure, Extracted)
    assert sure.left_out == ()


def test_lines_in_another_encoding_among_utf8_are_read() -> None:
    lines = ["Größe geprüft".encode(), "Öffnung für Züge".encode("latin-1"), "Übung".encode(), b"plain"] * 5
    found = extract(b"\n".join(lines), filename="a.log")
    assert isinstance(found, Extracted)
    assert found.text == "\n".join(["Größe geprüft", "Öffnung für Züge", "Übung", "plain"] * 5)
    assert found.left_out == (LeftOut("encoding", note="the encoding is a guess: cp1252"),)
