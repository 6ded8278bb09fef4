"""What a connector or an embedder may raise, sorted by what is to be done about it.

SourceError
├── ConfigError      the configuration cannot work: final, the person must change it
├── AuthError        bad or expired credentials: final, the person must sign in again
├── RateLimited      told to wait: tried again after ``retry_after_s``, which is no failure
├── Unavailable      passing trouble: tried again with backoff
│   └── Stalled      of that, silence: no answer, or one that does not come to its end
├── Unreadable       around one entity: it is counted as skipped and the read goes on
└── Stopped          the engine asked to stop; let it rise
EmbedderError        passing trouble of an embedder: the batch is tried again
└── Unembeddable     some texts alone are at fault: their entities are counted as failed and the batch goes on
"""

from collections.abc import Mapping


class SourceError(Exception):
    """The base of everything a connector raises on purpose."""


class ConfigError(SourceError):
    """The configuration cannot work; nothing is tried again until it is changed."""


class AuthError(SourceError):
    """The credentials are bad or expired; nothing is tried again until they are replaced."""


class RateLimited(SourceError):
    """The source says wait. ``retry_after_s``: seconds until the next try."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(SourceError):
    """The source cannot be reached or answers nonsense; it is tried again."""


class Stalled(Unavailable):
    """The source was reached but does not answer, or not to the end, in time; it is tried again."""


class Unreadable(SourceError):
    """This one entity cannot be read; its text is the reason that people will see."""


class Stopped(SourceError):
    """The engine asked the read to stop; raised by ``Context.sleep`` and to be let through."""


class EmbedderError(Exception):
    """The embedder failed; the batch is tried again and nothing of it is lost. ``retry_after_s``: it only said wait
    this long, which is no failure."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unembeddable(EmbedderError):
    """Texts that the embedder cannot take, however often; it works for others. ``reasons``: by their place in what it
    was given."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__("; ".join(sorted(set(reasons.values()))))
        self.reasons = dict(reasons)
