import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from tokenizers import Tokenizer
from wordllama import WordLlamaInference

from airweave_server.embedders import local
from airweave_server.embedders.local import WordLlama
from airweave_server.sdk import ConfigError, Vectors

FOLDER = local._find_installed()
TEXTS = [
    "hello world",
    "Hello, World!",
    " leading space",
    "trailing space ",
    "   ",
    "\n",
    "a",
    "x" * 300,
    "ab" * 2000,
    "two  spaces   three    four",
    "tabs\tand\r\nreturns",
    "line one\nline two\n\nline four",
    "1234567890 3.14 2024-01-15 v1.9.2",
    "x² + y² = z²., ½ cup",
    "def f(x):\n    return {'a': [1, 2], \"b\": None}  # done\n",
    "snake_case __init__ _private kebab-case-name",
    "parseHttpResponse(HTTPServer, iPhone)",
    "std::vector<int> v; v->size(); C++ C# .NET",
    "https://example.com/a/b.html?q=1&r=2#frag",
    "user@example.com",
    "<s>start</s> and <unk> tokens <s>",
    "a<s>b",
    "</s>",
    "if a < b and b > c: <div>",
    "▁ literal ▁▁ blocks",
    "naïve café Zürich Ærøskøbing",
    "cafe\u0301 decomposed",
    "Ελληνικά και Русский текст",
    "日本語のテキスト、です。",
    "中文文本 测试 １２３",
    "한국어 텍스트",
    "ภาษาไทยไม่มีช่องว่าง",
    "العربية עברית",
    "हिन्दी में पाठ",
    "emoji 😀👩‍👩‍👧‍👦🇩🇪 ok",
    "\u00a0no-break\u2003em space\u3000ideographic",
    "control \x01\x1f\x7f characters",
    "quotes “smart” ‘single’ — dash… ",
    "# Title\n\n- item\n- item\n\n| a | b |\n|---|---|\n",
    "SELECT * FROM t WHERE a='b' AND c<>1;",
    "!!!???...---===",
    "(((nested [brackets] {here})))",
    "$HOME/.config/file.toml",
    "0x7f 0b1010 1e-9",
    "A" * 50 + " " + "b" * 49,
    "word " * 500,
    "The quick brown fox jumps over the lazy dog. " * 40,
    "mixed日本English混合text",
    "٣٤٥ arabic digits",
    "ﬁ ligature ㎏ ①②③",
]


OURS = WordLlama()
with safe_open(FOLDER / local.WEIGHTS, framework="np") as _file:
    THEIRS = WordLlamaInference(_file.get_tensor(local.TENSOR), Tokenizer.from_file(str(FOLDER / local.TOKENIZER)))


def cosines(a: Vectors, b: Vectors) -> Vectors:
    return (a * b).sum(axis=1)  # type: ignore[no-any-return]


def test_vectors_are_those_of_wordllama_itself() -> None:
    ours = OURS.embed(TEXTS)
    expected = np.concatenate([THEIRS.embed([text], norm=True) for text in TEXTS])
    assert ours.shape == (len(TEXTS), 256)
    assert ours.dtype == np.float32
    worst = int(np.argmin(cosines(ours, expected)))
    assert cosines(ours, expected).min() >= 0.9999, TEXTS[worst]
    assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_any_text_has_the_vector_of_wordllama(text: str) -> None:
    expected = THEIRS.embed([text], norm=True)
    assert cosines(OURS.embed([text]), expected)[0] >= 0.9999


@given(st.text(alphabet=" ▁ab1²\n\t_-.<s>/é日", max_size=60))
def test_any_mix_of_piece_borders_has_the_vector_of_wordllama(text: str) -> None:
    if text:
        assert cosines(OURS.embed([text]), THEIRS.embed([text], norm=True))[0] >= 0.9999


def test_no_token_of_the_vocabulary_reaches_over_a_border_of_pieces() -> None:
    vocabulary = json.loads((FOLDER / local.TOKENIZER).read_text())["model"]["vocab"]
    own = {"<unk>", "<s>", "</s>"}
    tokens = [token for token in vocabulary if token not in own and not (len(token) == 6 and token.startswith("<0x"))]
    assert len(tokens) > 31_000
    assert [token for token in tokens if len(pieces(token)) > 1] == []
    assert [token for token in tokens if len(pieces(token.replace("▁", " "))) > 1] == []


def pieces(text: str) -> list[str]:
    """As the embedder cuts it."""
    if OURS._pieces is None:
        OURS.embed(["that it has read its weights"])
    assert OURS._pieces is not None
    letters, starts, lengths = OURS._pieces._cut(text)
    assert len(letters) == len(text)
    return [text[start : start + length] for start, length in zip(starts, lengths, strict=True)]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_pieces_leave_nothing_out(text: str) -> None:
    assert "".join(pieces(text)) == text


def test_pieces_are_words_with_the_spaces_before_them_marks_and_single_digits() -> None:
    text = "def  f_1(x²):\n\treturn  42 ▁é — 日本"
    assert pieces(text) == [
        "def",
        "  f",
        "_",
        "1",
        "(",
        "x",
        "²):",
        "\n",
        "\t",
        "return",
        "  ",
        "4",
        "2",
        " ▁é",
        " —",
        " 日本",
    ]


def test_texts_without_tokens_give_zero_vectors_and_no_texts_give_none() -> None:
    vectors = OURS.embed(["", "something", ""])
    assert not vectors[0].any()
    assert not vectors[2].any()
    assert np.linalg.norm(vectors[1]) == pytest.approx(1)
    assert OURS.embed([]).shape == (0, 256)


def test_lone_surrogates_and_nul_do_not_raise() -> None:
    vectors = OURS.embed(["a \ud800 b", "nul \0 here"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_text_has_the_same_vector_alone_in_a_batch_and_after_the_cache_was_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "CACHED_PIECES", 300)
    monkeypatch.setattr(local, "AT_ONCE", 100)
    small = WordLlama(folder=FOLDER)
    texts = [f"word{i} " + " ".join(f"{chr(97 + i % 26)}{chr(97 + j % 26)}q" for j in range(i)) for i in range(200)]
    many = " ".join(f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}" for i in range(2_000))
    expected = np.concatenate([OURS.embed([text]) for text in [*texts, many]])
    assert np.allclose(small.embed([*texts, many]), expected, atol=1e-5)


def test_very_long_texts_are_cut_and_stay_cheap() -> None:
    for text in ("ab" * 500_000, " " * 1_000_000, "日本" * 500_000, "word " * 200_000):
        vector = OURS.embed([text])[0]
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        assert np.array_equal(vector, OURS.embed([text[: local.MAX_CHARS]])[0])


def test_threads_share_one_embedder() -> None:
    shared = WordLlama()
    expected = OURS.embed(TEXTS)
    results: list[Vectors] = []
    threads = [threading.Thread(target=lambda: results.append(shared.embed(TEXTS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(results) == 4
    assert all(np.allclose(result, expected, atol=1e-6) for result in results)


def test_a_fork_after_use_is_silent_and_works() -> None:
    program = """
import os, sys
from airweave_server.embedders.local import WordLlama
embedder = WordLlama()
embedder.embed(["some text"] * 200)
pid = os.fork()
if pid == 0:
    embedder.embed(["other text of the child"] * 200)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert "TOKENIZERS_PARALLELISM" not in os.environ
assert "wordllama" not in sys.modules
"""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_missing_weights_are_named_at_first_use_not_before(tmp_path: Path) -> None:
    embedder = WordLlama(folder=tmp_path)
    with pytest.raises(ConfigError, match="l2_supercat_256"):
        embedder.embed(["x"])


def test_a_python_without_wordllama_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(ConfigError, match="install wordllama"):
        WordLlama().embed(["x"])


def test_near_meanings_are_nearer_than_far_ones() -> None:
    question, near, far = OURS.embed(
        ["how do I reset my password", "Steps to change a forgotten login password", "Bread needs flour and yeast"]
    )
    assert question @ near > question @ far + 0.1
