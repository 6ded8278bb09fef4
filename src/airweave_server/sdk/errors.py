"""The errors that a connector or an embedder may raise, sorted by how they are handled.

SourceError
├── ConfigError      the configuration cannot work: final until a person changes it
├── AuthError        bad credentials: final until a person replaces them
│   └── SignInExpired  a sign-in that has expired or was revoked: final until a person signs in again
├── RateLimited      the source says wait: retried after ``retry_after_s``; not counted as a failure
├── Unavailable      a temporary failure: retried with backoff
│   └── Stalled      no answer in time, or one that does not finish
├── Unreadable       one entity cannot be read: it is counted as skipped, and the read goes on
└── Stopped          the engine asked the read to stop; let it propagate
EmbedderError        a temporary failure of an embedder: the batch is retried
└── Unembeddable     only some texts are at fault: their entities are counted as failed, and the batch goes on
"""

from collections.abc import Mapping


class SourceError(Exception):
    """The base class of every error that a connector raises on purpose."""


class ConfigError(SourceError):
    """The configuration cannot work; there is no retry until it is changed."""


class AuthError(SourceError):
    """The credentials are bad or expired; there is no retry until they are replaced."""


class SignInExpired(AuthError):
    """The sign-in has expired or was revoked; there is no retry until a person signs in again."""


class RateLimited(SourceError):
    """The source says wait. ``retry_after_s``: seconds until the next attempt."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(SourceError):
    """The source cannot be reached, or its answer makes no sense; it is retried."""


class Stalled(Unavailable):
    """The source was reached but did not finish its answer in time; it is retried."""


class Unreadable(SourceError):
    """This one entity cannot be read; the message is the reason that people will see."""


class Stopped(SourceError):
    """The engine asked the read to stop. Raised by ``Context.sleep`` and ``Context.check``; do not catch it."""


class EmbedderError(Exception):
    """The embedder failed; the batch is retried and nothing is lost.

    ``retry_after_s``: the embedder asked to wait this many seconds, which is not counted as a failure.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unembeddable(EmbedderError):
    """Texts that the embedder will never accept, while it works for others.

    ``reasons``: why, by the position of each text in the call.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__("; ".join(sorted(set(reasons.values()))))
        self.reasons = dict(reasons)
