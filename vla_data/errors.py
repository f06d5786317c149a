"""What can go wrong, and the codes that name it.

    VlaDataError
    ├── DataError             one episode is bad: it is quarantined, the others go on      (exit 3)
    ├── UsageError            the call, a configuration or a format version is wrong       (exit 2)
    │   ├── NotFoundError     nothing lies where something should                          (E003)
    │   ├── MissingExtraError a package is not installed                                   (E006)
    │   ├── UndeclaredError   nobody declared what actions or states mean                  (E231)
    │   └── RecordError       a value that a recorder was given is wrong
    ├── RefusedError          too many bad episodes, or no good one: nothing is published  (exit 4)
    ├── TargetExistsError     the target exists, or is not ours to replace                 (exit 5)
    ├── VerifyError           a dataset does not hold what it should                       (exit 6)
    ├── MachineError          disk full, permission, input/output error: run it again      (exit 7)
    └── LockedError           another run is writing the same target                       (exit 8)

Codes are published: they are never renamed or reused. Every message is one line:
``vla-data: E105 truncated: data_0007.npz: arr_0.npy ends after 8,192 of 40,123 bytes``.
"""

from __future__ import annotations

from typing import ClassVar, Final, Self

CODES: Final[dict[str, str]] = {
    # reading
    "E101": "forbidden-class",
    "E102": "not-npy",
    "E103": "forbidden-opcode",
    "E104": "bad-state",
    "E105": "truncated",
    "E106": "too-complex",
    "E107": "too-large",
    "E108": "odd-archive",
    "E109": "bad-image",
    "E111": "external-data",
    "E112": "filter",
    "E121": "unknown-class",
    "E122": "path-template",
    "E131": "not-a-regular-file",
    "E132": "seal-broken",
    "E133": "missing-file",
    "E141": "bad-json",
    # content
    "E201": "not-finite",
    "E202": "out-of-range",
    "E203": "shape",
    "E204": "length-mismatch",
    "E205": "success-type",
    "E206": "missing-key",
    "E207": "empty",
    "E208": "lossy-cast",
    "E211": "no-instruction",
    "E212": "text",
    "E221": "timestamps",
    "E231": "undeclared",
    "E232": "not-convertible",
    "E301": "stale",
    "E302": "bad-advantages",
    # workers
    "E501": "worker-killed",
    "E502": "reader-crashed",
    "E503": "timeout",
    "E504": "memory-limit",
    # whole runs
    "E001": "usage",
    "E002": "unknown-format",
    "E003": "not-found",
    "E004": "duplicate-key",
    "E005": "mixed-episodes",
    "E006": "missing-extra",
    "E023": "hidden-package",
    "E007": "no-such-episode",
    "E021": "not-portable",
    "E022": "step-result",
    "E401": "too-many-bad",
    "E402": "nothing-to-publish",
    "E403": "source-changed",
    "E411": "target-exists",
    "E412": "built-from-other-data",
    "E601": "verify",
    "E701": "disk-full",
    "E702": "permission",
    "E703": "input-output",
    "E801": "locked",
    "E901": "bug",
}
"""Code -> its published short name."""


class VlaDataError(Exception):
    """Anything this package refuses, with a stable ``code`` and the process's ``exit_code``."""

    exit_code = 1

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def name(self) -> str:
        """The code's published short name, for example ``truncated``."""
        return CODES[self.code]

    def __str__(self) -> str:
        return f"{self.code} {self.name}: {self.message}"

    def __reduce__(self) -> tuple[type[VlaDataError], tuple[str, str]]:
        return type(self), (self.code, self.message)


class DataError(VlaDataError):
    """One episode that cannot be used; it is quarantined and the run goes on.

    Attributes:
        source_sha256: of the bytes that were read, where they could be.
        frames: the number of steps, where it became known before the fault.
        ignore: this is no episode at all but a file of another kind, which is left alone and not counted.
    """

    exit_code = 3
    ignore = False
    source_sha256: str | None = None
    frames: int | None = None


class UsageError(VlaDataError):
    """The call or its input as a whole cannot be right. Some codes have a class of their own."""

    exit_code = 2
    _own: ClassVar[dict[str, type[UsageError]]] = {}

    def __new__(cls, code: str, *_: object) -> Self:
        """The error of ``code``, of that code's own class if it has one."""
        own = UsageError._own.get(code, cls)
        return super().__new__(own if issubclass(own, cls) else cls)

    def __init_subclass__(cls, *, code: str = "") -> None:
        super().__init_subclass__()
        if code:
            UsageError._own[code] = cls


class NotFoundError(UsageError, code="E003"):
    """Nothing lies where something should."""


class MissingExtraError(UsageError, code="E006"):
    """A package that this needs is not installed; the message says what to install."""


class UndeclaredError(UsageError, code="E231"):
    """Nobody declared what actions or states mean, and nothing shows it."""


class RecordError(UsageError, ValueError):
    """What a recorder was given can't be recorded; nothing of that call was. It is a ``ValueError``, too."""


class RefusedError(VlaDataError):
    """The result would not be worth publishing."""

    exit_code = 4


class TargetExistsError(VlaDataError):
    """The target is there already."""

    exit_code = 5


class VerifyError(VlaDataError):
    """What was read back is not what was written."""

    exit_code = 6


class MachineError(VlaDataError):
    """The machine failed the run, which can go on later."""

    exit_code = 7


class LockedError(VlaDataError):
    """Another process holds the target."""

    exit_code = 8
