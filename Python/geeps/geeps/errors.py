"""What can go wrong, one class for each status of ``geeps.h``."""

from __future__ import annotations


class GeepsError(RuntimeError):
    """Something in GeePS failed; the message says what was being done, what was found and what would do."""

    status = 0
    name = "GEEPS_UNKNOWN"


class ArgumentError(GeepsError, ValueError):
    """A call does not fit the job; nothing has changed."""

    status, name = 1, "GEEPS_ARGUMENT"


class NotYet(GeepsError, TimeoutError):
    """The time given to one call is over; calling again is fine."""

    status, name = 2, "GEEPS_NOT_YET"


class PeerLost(GeepsError, ConnectionError):
    """A process of the job is gone."""

    status, name = 10, "GEEPS_PEER_LOST"


class Deadline(GeepsError, TimeoutError):
    """A wait reached the job's deadline."""

    status, name = 11, "GEEPS_DEADLINE"


class BudgetTooSmall(GeepsError, MemoryError):
    """No placement fits the budget; the message has the least that does."""

    status, name = 12, "GEEPS_BUDGET_TOO_SMALL"


class OutOfMemory(GeepsError, MemoryError):
    """The device or the host has no room."""

    status, name = 13, "GEEPS_OUT_OF_MEMORY"


class DeviceFailed(GeepsError):
    """Copies or kernels failed on the device."""

    status, name = 14, "GEEPS_DEVICE_FAILED"


class ContentLost(GeepsError):
    """Local data that was to survive is gone, because the plan had no use for it."""

    status, name = 15, "GEEPS_CONTENT_LOST"


class Closed(GeepsError):
    """The job has been closed."""

    status, name = 16, "GEEPS_CLOSED"


class ProtocolError(GeepsError):
    """A peer sent what the protocol forbids."""

    status, name = 17, "GEEPS_PROTOCOL"


class JoinTimeout(GeepsError, TimeoutError):
    """Somebody was not there in time."""

    status, name = 20, "GEEPS_JOIN_TIMEOUT"


class RankError(GeepsError):
    """Two processes claim one rank, or a rank is not in the job."""

    status, name = 21, "GEEPS_RANK"


class WorldSizeError(GeepsError):
    """Processes were started for jobs of different size."""

    status, name = 22, "GEEPS_WORLD_SIZE"


class Disagreement(GeepsError):
    """Models, optimisers or the like differ between processes."""

    status, name = 23, "GEEPS_DISAGREEMENT"


class AddressError(GeepsError):
    """An address cannot be understood, listened on or reached."""

    status, name = 24, "GEEPS_ADDRESS"


class Mismatch(GeepsError):
    """Processes did different things where all must do the same."""

    status, name = 25, "GEEPS_MISMATCH"


class Left(GeepsError):
    """This process, or one that was waited for, has left the job."""

    status, name = 26, "GEEPS_LEFT"


class SystemFailure(GeepsError, OSError):
    """The operating system said no."""

    status, name = 27, "GEEPS_SYSTEM"


class SecretError(GeepsError):
    """The processes do not know the same job secret (``GEEPS_SECRET_FILE``), or its file cannot be used."""

    status, name = 28, "GEEPS_SECRET"


class CertificateError(GeepsError):
    """A TLS certificate, this process's or another's, will not do, or only some processes have TLS."""

    status, name = 29, "GEEPS_CERTIFICATE"


class LibraryMissing(GeepsError, ImportError):
    """``libgeeps.so`` cannot be found or does not fit this package."""


BY_STATUS: dict[int, type[GeepsError]] = {
    error.status: error for error in GeepsError.__subclasses__() if error.status
}
