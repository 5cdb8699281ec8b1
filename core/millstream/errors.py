"""The errors that callers may catch; adapters turn third-party exceptions into these.

MillstreamError
├── UsageError            what was asked for can't be done as asked; names field, value, remedy
├── SettingsError         a setting is wrong or two settings contradict
├── NameTakenError        another process lives under this one's name
├── LogError              the event log refused or did not answer
│   ├── ConflictError         compare-and-set lost: somebody else appended first
│   ├── LogUnavailableError   no answer in time; nothing is known to be stored
│   ├── LogFullError          the store is full; nothing was dropped
│   └── LogRefusedError       the NATS user has no permission for it
├── QueryFailedError      a question about what is stored can't be answered, or not now
└── ServerError           an embedded process did not start or died
"""


class MillstreamError(Exception):
    """Base of all errors of Millstream."""


class UsageError(MillstreamError):
    """A request that can't be carried out as asked.

    ``field`` names what was wrong, ``value`` what it was; the message tells the remedy.
    """

    def __init__(self, message: str, *, field: str = "", value: object = None) -> None:
        super().__init__(message)
        self.field = field
        self.value = value


class SettingsError(MillstreamError):
    """A setting is wrong; the message names it."""


class NameTakenError(MillstreamError):
    """Another process lives under this one's name: one of the two must end."""


class LogError(MillstreamError):
    """The event log refused or did not answer."""


class ConflictError(LogError):
    """Somebody else appended to the subject first; read again and decide again."""


class LogUnavailableError(LogError):
    """The log did not answer in time; whether something was stored is not known."""


class LogFullError(LogError):
    """The store is full and refuses new events; make room or raise MILLSTREAM_MAX_BYTES."""


class LogRefusedError(LogError):
    """The NATS user may not do this; asking again changes nothing."""


class QueryFailedError(MillstreamError):
    """A query found no answer; ``code`` is one of QueryError's codes or ``unavailable``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ServerError(MillstreamError):
    """A process that Millstream runs did not start, or died."""
