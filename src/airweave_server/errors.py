"""What the service raises, sorted by what is to be done about it.

ServiceError
├── BadInput       the caller can mend it (422)
├── InvalidState   not now, in this state (400)
├── NotFound       there is no such thing, or not for this organization (404)
├── Unauthorized   no key, or one that does not hold (401)
├── TooMany        slow down (429)
├── Unavailable    what is needed cannot be reached now (503)
├── Fenced         somebody else may write now; drop what is in memory
└── Unstartable    the process cannot start: one clear line, exit 1

ClientError         what a command asked a server for went wrong: one clear line, exit 1
"""


class ServiceError(Exception):
    """The base of everything the service raises on purpose. Its text is shown to people."""


class BadInput(ServiceError):
    """What was sent cannot be used. ``field`` names it, as ``body.name``; empty when it concerns the whole."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class InvalidState(ServiceError):
    """It cannot be done in the state the thing is in."""


class NotFound(ServiceError):
    """There is no such thing for this organization."""


class Unauthorized(ServiceError):
    """No API key, or one that does not hold."""


class TooMany(ServiceError):
    """Too many tries. ``retry_after_s``: seconds to wait."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(ServiceError):
    """What is needed for it cannot be reached now; the same again may work later."""


class Fenced(ServiceError):
    """The epoch moved on: a cancel, a delete, a change or a takeover; nothing more may be written under it."""


class Unstartable(ServiceError):
    """The process cannot start; its text is the one line that is printed before exit 1."""


class ClientError(Exception):
    """What a client of the HTTP API asked for went wrong. Its text is one line for a person, with the next step."""
