"""The labelled collections that the benchmarks make: the right document never holds its question, and files of one text
differ in what the question names."""

import os
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import made


def test_a_question_has_one_document_which_does_not_hold_it() -> None:
    for one in (made.summaries(), made.headings()):
        assert len(one.queries) == len(one.grades)
        for query, grades in zip(one.queries, one.grades, strict=True):
            [right] = grades
            assert query.lower() not in one.texts[right].lower()
    assert len(made.summaries().texts) > 500


def test_the_files_of_one_text_differ_in_their_months_and_kinds(tmp_path: Path) -> None:
    one = made.constraints()
    assert isinstance(one, made.Dated)
    one.write(tmp_path / "files")
    for n, (query, grades) in enumerate(zip(one.queries, one.grades, strict=True)):
        names = [f"note-{n:04}-{copy}" for copy in range(made.COPIES)]
        assert len({one.texts[name] for name in names}) == 1
        paths = [tmp_path / "files" / f"{name}.{one.endings[name]}" for name in names]
        months = [datetime.fromtimestamp(os.stat(path).st_mtime, UTC).month for path in paths]
        assert len(set(months)) == len({path.suffix for path in paths}) == made.COPIES
        [right] = grades
        month = made.MONTHS[one.times[right].month - 1]
        assert f"in {month} 2023" in query or made.KINDS[one.endings[right]] in query


def test_they_are_the_same_each_time() -> None:
    assert made.constraints() == made.constraints()
