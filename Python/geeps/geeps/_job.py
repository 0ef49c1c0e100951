"""A job of ``geeps.h`` as an object."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from ._device import Host
from ._layout import Member, Table
from ._library import NOT_YET, OK, Counters, Memory, Piece, Rule, check, error, library
from .errors import Closed, Deadline

#: This process; asked for only where it forks, since every call looks at it.
_process = os.getpid()


def _note_fork() -> None:
    global _process
    _process = os.getpid()


os.register_at_fork(after_in_child=_note_fork)

#: Most of a wait that happens out of Python's sight: signals are looked at between slices.
_SLICE_SECONDS = 0.2


class Job:
    """A process's part in a job: tables, and keepers that run the optimiser.

    The memory that it lends stays until the last reference to the job is gone, also after ``close``.
    """

    def __init__(
        self,
        options: Mapping[str, object],
        tables: Iterable[tuple[str, int, Rule]],
        wait_timeout: float,
        device: Host,
    ) -> None:
        self._process = _process
        self._handle = ctypes.c_void_p()
        self._wait_timeout = wait_timeout
        self.device = device
        # The default stream, which is 0, at first.
        self._stream: int | None = None if device.stream() is None else 0
        self.is_closed = False
        check(library.geeps_create(ctypes.byref(self._handle)))
        for key, value in options.items():
            self.call("geeps_set", key.encode(), str(value).encode())
        index = ctypes.c_uint32()
        for name, count, rule in tables:
            self.call("geeps_table_create", name.encode(), count, ctypes.byref(rule), ctypes.byref(index))
        patiently(lambda: self.call("geeps_join"))

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a function of ``geeps.h`` on the job; raises what it answers."""
        status = getattr(library, name)(self.handle, *arguments)
        if status != OK:
            raise error(status)

    @property
    def handle(self) -> ctypes.c_void_p:
        """For the functions of ``geeps.h``."""
        if _process != self._process:
            raise Closed(
                f"this process was forked from the one that attached GeePS ({self._process}); only that one trains"
            )
        return self._handle

    @property
    def is_usable(self) -> bool:
        """Whether calls make sense: not closed, and not a forked child's."""
        return not self.is_closed and _process == self._process

    def wait(self, table: int) -> None:
        """Waits until the values of ``table`` are fresh enough; Ctrl-C ends it."""
        handle = self.handle
        status = library.geeps_wait(handle, table, _SLICE_SECONDS)
        if status == OK:
            return
        start = time.monotonic()
        while status == NOT_YET:
            if time.monotonic() - start > self._wait_timeout:
                raise Deadline(
                    f"table {table} is not up to date after {self._wait_timeout:g} s: some process has not called "
                    "step() as often as this one"
                )
            status = library.geeps_wait(handle, table, _SLICE_SECONDS)
        check(status)

    def _follow(self) -> None:
        """Goes on behind what torch has put on its current stream."""
        stream = self.device.stream()
        if stream != self._stream:
            self.call("geeps_set_stream", stream)
            self._stream = stream

    def read(self, table: int) -> tuple[int, int]:
        """The address of the values of ``table`` and the lease to ``release``."""
        self._follow()
        lease, values = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("geeps_read", table, ctypes.byref(lease), ctypes.byref(values), None)
        return values.value or 0, lease.value or 0

    def peek(self, table: int) -> tuple[int, int]:
        """The same outside the iteration that repeats, in host memory."""
        self._follow()
        lease, values = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("geeps_peek", table, ctypes.byref(lease), ctypes.byref(values), None)
        return values.value or 0, lease.value or 0

    def release(self, lease: int) -> None:
        """Gives back what ``read`` lent."""
        if _process == self._process:
            library.geeps_release(lease)

    def update(self, table: Table, gradients: list[tuple[torch.Tensor, Member]]) -> None:
        """Hands over gradients of parameters of a table."""
        self._follow()
        if table.pieces is None:
            table.pieces = (Piece * len(table.members))()
        for piece, (gradient, member) in zip(table.pieces, gradients, strict=False):
            piece.values = gradient.data_ptr()
            piece.offset = member.offset
            piece.count = member.count
        self.call("geeps_update", table.index, table.pieces, len(gradients))

    def tensor(self, address: int, byte_count: int, dtype: torch.dtype, owner: object) -> torch.Tensor:
        """Lent bytes of the device as a flat tensor, without a copy; its storage keeps ``owner``."""
        return self.device.tensor(address, byte_count, dtype, owner)

    def peeked(self, address: int, byte_count: int, dtype: torch.dtype, owner: object) -> torch.Tensor:
        """The same of what ``peek`` lent; on a GPU a copy in torch's own memory."""
        lent = Host().tensor(address, byte_count, dtype, owner)
        return lent if self.device.torch.type == "cpu" else lent.to(self.device.torch)

    def clock(self) -> None:
        """Ends the iteration."""
        self.call("geeps_clock", None)

    def create_local(self, name: str, byte_count: int) -> int:
        """A place for bytes of this process."""
        local = ctypes.c_uint32()
        self.call("geeps_local_create", name.encode(), byte_count, ctypes.byref(local))
        return local.value

    def put_local(self, local: int, source: torch.UntypedStorage | torch.Tensor, may_stay: bool) -> bool:
        """Keeps a copy of bytes there; or not: they may stay where they are until they have been used."""
        self._follow()
        if not may_stay:
            self.call("geeps_local_put", local, source.data_ptr(), None)
            return False
        stays = ctypes.c_int32()
        self.call("geeps_local_put", local, source.data_ptr(), ctypes.byref(stays))
        return stays.value != 0

    def let_stay(self, local: int) -> None:
        """From the next plan on, what is put there may stay where it is."""
        self.call("geeps_local_let_stay", local)

    def get_local(self, local: int) -> tuple[int, int]:
        """The address of what was put there and the lease to ``release``."""
        self._follow()
        lease, address = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("geeps_local_get", local, ctypes.byref(lease), ctypes.byref(address))
        return address.value or 0, lease.value or 0

    def gradient_norm(self) -> float:
        """The norm of all gradients of a two-phase clock."""
        norm = ctypes.c_double()
        patiently(lambda: self.call("geeps_gradient_norm", ctypes.byref(norm), self._wait_timeout))
        return norm.value

    def sum(self, label: str, value: float) -> float:
        """``value`` added up over all processes; every process calls it."""
        total = ctypes.c_double(value)
        patiently(lambda: self.call("geeps_sum", label.encode(), ctypes.byref(total), 1, self._wait_timeout))
        return total.value

    def memory(self) -> Memory:
        """What managed memory has counted."""
        memory = Memory()
        self.call("geeps_memory_count", ctypes.byref(memory), ctypes.sizeof(memory))
        return memory

    def counters(self) -> Counters:
        """What has been counted."""
        counters = Counters()
        self.call("geeps_count", ctypes.byref(counters), ctypes.sizeof(counters))
        return counters

    def close(self, timeout: float) -> None:
        """Leaves the job in order."""
        if self.is_closed or os.getpid() != self._process:
            return
        self.is_closed = True
        patiently(lambda: self.call("geeps_close", timeout))

    def abort(self, reason: str) -> None:
        """Makes every wait of every process fail."""
        if not self.is_closed and os.getpid() == self._process:
            self.call("geeps_abort", reason.encode())

    def __del__(self) -> None:
        # In a forked child the threads are not there that would have to end.
        if getattr(self, "_handle", None) and os.getpid() == self._process:
            library.geeps_destroy(self._handle)


def patiently(work: Callable[[], None]) -> None:
    """Runs what may wait long on a thread, so that Ctrl-C is noticed."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run, name="geeps waits", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_SLICE_SECONDS)
    if failures:
        raise failures[0]
