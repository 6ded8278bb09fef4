"""Words that are broken at the ends of lines and pages."""

import time

import pytest

from airweave_server.text import hyphens


def joined(*pages: str) -> list[str]:
    return hyphens.join([hyphens.mark(page) for page in pages])


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("part QX-\n7781 fits", "part QX-7781 fits"),
        ("part QX\x027781 fits", "part QX-7781 fits"),  # as PDFium marks it
        ("part QX\ufffe7781 fits", "part QX-7781 fits"),
        ("order 2024-\n118 of", "order 2024-118 of"),
        ("norm ISO-\nIEC", "norm ISO-IEC"),
        ("an Anglo-\nAmerican law", "an Anglo-American law"),
        ("an X-\nray of", "an X-ray of"),
        ("by self-\nservice", "by self-service"),
        ("by self\u2010\nservice", "by self-service"),
        ("by self\u2011\nservice", "by self-service"),
        ("a state-of-the-\nart one", "a state-of-the-art one"),
        ("case-\nby-case", "case-by-case"),
        ("on the x-\naxis", "on the x-axis"),
        ("pre-\nand post-war", "pre- and post-war"),
        ("command-\nand-control", "command-and-control"),
        ("in this forms an in-\nforms", "in this forms an informs"),
        ("ein Benutzer nutzen den nutzen-\nden", "ein Benutzer nutzen den nutzenden"),
        ("an inter-\nnational treaty", "an international treaty"),
        ("an inter\u2010\nnational treaty", "an international treaty"),
        ("an inter\xad\nnational treaty", "an international treaty"),
        ("a sen\xadtence", "a sentence"),
        ("QX\xad7781", "QX-7781"),  # a font that takes its hyphen for a soft one
        ("left over -\nnew line", "left over -\nnew line"),
        ("the first item-\n2. the second", "the first item-\n2. the second"),
    ],
)
def test_a_broken_word_is_whole_again(broken: str, whole: str) -> None:
    assert joined(broken) == [whole]


@pytest.mark.parametrize(
    ("others", "whole"),
    [
        ("A dual-encoder is fast.", "dual-encoder"),
        ("A dualencoder is fast.", "dualencoder"),
        ("Dualencoder, dualencoder, and a dual-encoder.", "dualencoder"),
        ("An encoder has dual use.", "dual-encoder"),
        ("Nothing about it.", "dualencoder"),
        ("A dual-encoder-model.", "dual-encoder"),
    ],
)
def test_the_document_decides_how_its_word_is_written(others: str, whole: str) -> None:
    for broken in ("dual-\nencoder", "dual\x02encoder"):
        assert joined(others, f"We train a {broken} here.")[1] == f"We train a {whole} here."
        assert joined(f"We train a {broken} here.", others)[0] == f"We train a {whole} here."


def test_a_word_broken_by_the_end_of_a_page_stands_on_the_first_one() -> None:
    assert joined("by self-", "service only") == ["by self-service", "only"]
    assert joined("part QX-\n", " 7781 fits") == ["part QX-7781", "fits"]
    assert joined("an inter-", "national one") == ["an international", "one"]
    assert joined("an inter-\n1", "national one") == ["an international\n1", "one"]  # above the number of the page
    assert joined("part QX-\n7781", "is next") == ["part QX-7781", "is next"]
    assert joined("the end -", "of it") == ["the end -", "of it"]
    assert joined("the end-", "The next one") == ["the end-", "The next one"]


def test_hostile_text_takes_linear_time() -> None:
    started = time.monotonic()
    for text in ("a-\n" * 20_000, "a\x02" * 20_000, "-\n" * 20_000, "a" * 40_000 + "-\nb", "\xad" * 40_000):
        joined(text, text)
    assert time.monotonic() - started < 10
