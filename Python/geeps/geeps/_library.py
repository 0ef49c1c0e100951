"""``libgeeps.so``: where it is, and its functions (``geeps.h`` says what each promises)."""

from __future__ import annotations

import ctypes
import os
import pathlib
from ctypes import POINTER, c_char_p, c_double, c_float, c_int32, c_size_t, c_uint32, c_uint64, c_void_p

from .errors import BY_STATUS, GeepsError, LibraryMissing

ABI_VERSION = 1
OK = 0
NOT_YET = 2


class Rule(ctypes.Structure):
    """``geeps_rule``."""

    _fields_ = [
        ("kind", c_int32),
        ("nesterov", c_int32),
        ("centered", c_int32),
        ("sums", c_int32),
        ("learning_rate", c_double),
        ("weight_decay", c_double),
        ("momentum", c_double),
        ("dampening", c_double),
        ("beta1", c_double),
        ("beta2", c_double),
        ("epsilon", c_double),
        ("alpha", c_double),
        ("learning_rate_decay", c_double),
        ("initial_accumulator", c_double),
    ]


class Piece(ctypes.Structure):
    """``geeps_piece``; the address as a number, which is what ``Tensor.data_ptr`` gives."""

    _fields_ = [("values", c_uint64), ("offset", c_uint64), ("count", c_uint64)]


class Memory(ctypes.Structure):
    """``geeps_memory``."""

    _fields_ = [
        (name, c_uint64)
        for name in (
            "bytes_in",
            "bytes_out",
            "served_on_demand",
            "plans_abandoned",
            "plans_followed",
            "wait_nanoseconds",
            "plan_device_bytes",
            "plan_bytes_in",
            "plan_bytes_out",
            "budget_bytes",
            "plan_left_bytes",
        )
    ]


class Access(ctypes.Structure):
    """``geeps_access``."""

    _fields_ = [("kind", c_int32), ("id", c_uint32), ("matters", c_int32)]


class PlanReport(ctypes.Structure):
    """``geeps_plan_report``."""

    _fields_ = [
        (name, c_uint64)
        for name in (
            "least_bytes",
            "full_bytes",
            "device_bytes",
            "bytes_in",
            "bytes_out",
            "update_bytes",
            "tables_on_device",
            "locals_that_move",
        )
    ]


class Counters(ctypes.Structure):
    """``geeps_counters``."""

    _fields_ = [
        (name, c_uint64)
        for name in (
            "ticks",
            "bytes_sent",
            "bytes_received",
            "stall_nanoseconds",
            "reads_in_place",
            "reads_copied",
            "updates",
            "plan_deviations",
            "replans",
            "reconnects",
        )
    ]


_FUNCTIONS = {
    "geeps_create": [POINTER(c_void_p)],
    "geeps_set": [c_void_p, c_char_p, c_char_p],
    "geeps_table_create": [c_void_p, c_char_p, c_uint64, POINTER(Rule), POINTER(c_uint32)],
    "geeps_join": [c_void_p],
    "geeps_close": [c_void_p, c_double],
    "geeps_abort": [c_void_p, c_char_p],
    "geeps_initialise": [c_void_p, c_uint32, c_void_p, c_uint64],
    "geeps_set_stream": [c_void_p, c_void_p],
    "geeps_wait": [c_void_p, c_uint32, c_double],
    "geeps_read": [c_void_p, c_uint32, POINTER(c_void_p), POINTER(c_void_p), POINTER(c_uint64)],
    "geeps_plan": [c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_size_t, c_uint64, POINTER(PlanReport)],
    "geeps_peek": [c_void_p, c_uint32, POINTER(c_void_p), POINTER(c_void_p), POINTER(c_uint64)],
    "geeps_local_create": [c_void_p, c_char_p, c_uint64, POINTER(c_uint32)],
    "geeps_local_let_stay": [c_void_p, c_uint32],
    "geeps_local_put": [c_void_p, c_uint32, c_void_p, POINTER(c_int32)],
    "geeps_local_get": [c_void_p, c_uint32, POINTER(c_void_p), POINTER(c_void_p)],
    "geeps_memory_count": [c_void_p, POINTER(Memory), c_size_t],
    "geeps_clock_begin": [c_void_p],
    "geeps_gradient_norm": [c_void_p, POINTER(c_double), c_double],
    "geeps_clock_finish": [c_void_p, c_double, c_int32],
    "geeps_update": [c_void_p, c_uint32, c_void_p, c_size_t],
    "geeps_send_ahead": [c_void_p, c_uint32],
    "geeps_clock": [c_void_p, POINTER(c_uint64)],
    "geeps_set_learning_rate": [c_void_p, c_uint32, c_double],
    "geeps_set_rule": [c_void_p, c_uint32, POINTER(Rule)],
    "geeps_state_count": [c_void_p, c_uint32, POINTER(c_size_t)],
    "geeps_state_name": [c_void_p, c_uint32, c_size_t, POINTER(c_char_p)],
    "geeps_state_read": [c_void_p, c_uint32, c_size_t, c_void_p, c_uint64, POINTER(c_uint64)],
    "geeps_state_write": [c_void_p, c_uint32, c_size_t, c_void_p, c_uint64, c_uint64],
    "geeps_write": [c_void_p, c_uint32, c_void_p, c_uint64],
    "geeps_barrier": [c_void_p, c_char_p, c_double],
    "geeps_broadcast": [c_void_p, c_char_p, c_void_p, c_uint64, c_double],
    "geeps_sum": [c_void_p, c_char_p, POINTER(c_double), c_uint64, c_double],
    "geeps_count": [c_void_p, POINTER(Counters), c_size_t],
}


def path() -> pathlib.Path:
    """Where the library is: ``GEEPS_LIBRARY``, or beside this file."""
    given = os.environ.get("GEEPS_LIBRARY")
    found = pathlib.Path(given) if given else pathlib.Path(__file__).with_name("libgeeps.so")
    if not found.is_file():
        raise LibraryMissing(
            f"there is no {found}: "
            + ("GEEPS_LIBRARY names it" if given else "the package was not built with its library")
            + "; `make library` in GeePS's repository makes .build-library/libgeeps.so (it needs Swift 6.3), and "
            "`pip install ./Python/geeps` puts it into the package"
        )
    return found


def load() -> ctypes.CDLL:
    """The library, checked to be of this package's version."""
    place = path()
    try:
        library = ctypes.CDLL(str(place))
    except OSError as error:
        raise LibraryMissing(f"{place} cannot be loaded: {error}; it needs Linux with glibc 2.34 or later") from error
    library.geeps_abi_version.restype = c_uint32
    version = library.geeps_abi_version()
    if version != ABI_VERSION:
        raise LibraryMissing(f"{place} has interface version {version}, this package needs {ABI_VERSION}")
    library.geeps_version.restype = c_char_p
    library.geeps_last_error.restype = c_char_p
    for name, arguments in _FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = c_int32
    for name in ("geeps_release", "geeps_destroy"):
        function = getattr(library, name)
        function.argtypes = [c_void_p]
        function.restype = None
    return library


library = load()


def error(status: int) -> GeepsError:
    """The exception of a status, with this thread's last message."""
    message = library.geeps_last_error().decode("utf-8", "replace")
    return BY_STATUS.get(status, GeepsError)(message)


def check(status: int) -> None:
    """Raises what a call answered, unless that is OK."""
    if status != OK:
        raise error(status)


__all__ = ["Counters", "Piece", "Rule", "c_float", "check", "error", "library"]
