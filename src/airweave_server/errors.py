"""The errors of the service, sorted by what to do about them.

ServiceError
├── BadInput       correct the input (422)
├── InvalidState   not possible in the present state (400)
├── NotFound       does not exist, or belongs to another organization (404)
├── Unauthorized   send a valid API key (401)
├── Forbidden      send an API key whose role may do it (403)
├── TooMany        slow down (429)
├── Unavailable    something needed cannot be reached now; try again (503)
│   └── NoRoom     the disk is full; go on when there is room
├── Fenced         another process may write now; drop what is in memory
└── Unstartable    the process cannot start: one line, exit 1

ClientError         a command's request to a server failed: one line, exit 1
"""


class ServiceError(Exception):
    """The base of all errors that the service raises on purpose. Its text is shown to people."""


class BadInput(ServiceError):
    """The input is invalid. ``field`` names the part, such as ``body.name``; empty if it is the whole."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class InvalidState(ServiceError):
    """The operation is not possible in the present state."""


class NotFound(ServiceError):
    """It does not exist in this organization."""


class Unauthorized(ServiceError):
    """No API key, or an invalid one."""


class Forbidden(ServiceError):
    """The API key is valid, but its role may not do this."""


class TooMany(ServiceError):
    """Too many requests. ``retry_after_s``: seconds to wait."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(ServiceError):
    """Something needed cannot be reached now. The same request may work later."""


class NoRoom(Unavailable):
    """A disk has too little room. Its text says how much is free and how much is needed."""


class Fenced(ServiceError):
    """The epoch has changed, by a cancel, a delete, a new configuration or a takeover. Nothing may be written under the
    old one."""


class Unstartable(ServiceError):
    """The process cannot start. Its text is the one line printed before exit 1."""


class ClientError(Exception):
    """A request to the HTTP API failed. Its text is one line for a person, with the next step. ``status`` and
    ``refusal``: what a server has answered, if one has."""

    def __init__(self, message: str, *, status: int | None = None, refusal: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.refusal = refusal
