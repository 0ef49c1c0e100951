"""The clock in two phases: gradients of all processes are added up, and the keepers wait until their norm is known."""

from __future__ import annotations

import math

from . import _layout
from ._job import Job
from .errors import ArgumentError


class TwoPhaseClock:
    """Clipping and loss scaling at the keepers.

    ``begin``, then gradients and the job's clock, then ``add_up`` and ``finish``. Between the last two no value of a
    parameter can be read: the keepers owe the next ones.

    In managed memory gradients leave during backward, so that the clock has to begin before the first of them. Whether
    it is worth it is learned: the first iteration is held, the next ones if the script asked for the norm or dropped
    gradients in that one. A clock that is not held sends beside the backward pass.
    """

    def __init__(self, job: Job, tables: list[_layout.Table], waits_for_others: bool, holds: bool | None) -> None:
        self._job = job
        self._tables = tables
        self._waits_for_others = waits_for_others
        self._is_given = holds is not None
        self._is_learning = holds is None
        #: Whether each clock begins in two phases by itself.
        self.holds = holds is not False
        self.is_begun = False
        #: Whether gradients of this clock have been handed over.
        self.has_gradients = False
        self._norm: float | None = None
        self._scale = 1.0
        #: The norm of gradients that a scaler skips because they are not finite, until there are others.
        self.dropped_norm: float | None = None

    # ------------------------------------------------------------------------------------------------
    # Phases

    def before_gradient(self) -> None:
        """A gradient is about to be handed over."""
        self.require_readable("backward")
        if not self.has_gradients:
            self.has_gradients = True
            self.dropped_norm = None
            if self.holds and not self.is_begun:
                self.begin()

    def begin(self) -> None:
        """The keepers wait with this clock's gradients; waits until all earlier clocks are applied."""
        if self._waits_for_others:
            # In slices, so that Ctrl-C is noticed; the call itself then finds nothing to wait for.
            for table in self._tables:
                self._job.wait(table.index)
        self._job.call("geeps_clock_begin")
        self.is_begun = True

    def add_up(self) -> None:
        """The norm of all processes' gradients, when this one's have been handed over; a collective."""
        self._norm = self._job.gradient_norm()

    @property
    def is_added_up(self) -> bool:
        """Whether the keepers owe values, and wait for ``finish``."""
        return self._norm is not None

    @property
    def norm(self) -> float:
        """The norm of the gradients as scaled so far."""
        assert self._norm is not None, "add_up comes first"
        return self._norm * self._scale

    def scale(self, factor: float) -> None:
        """Multiplies the gradients, when the optimizer runs on them."""
        self._scale *= factor

    def clip(self, max_norm: float) -> float:
        """Scales the gradients down to ``max_norm``; returns what their norm was."""
        norm = self.norm
        # Gradients that are not finite make of the parameters what they make of them in torch: nothing good.
        if not math.isnan(norm):
            self.scale(min(max_norm / (norm + 1e-6), 1.0))
        return norm

    def finish(self, discard: bool = False) -> None:
        """Lets the optimizer run on what has been added up, or drops it."""
        # Dropped gradients have been added up: those that come later than this would be stepped with.
        assert self.is_added_up or not discard
        self._job.call("geeps_clock_finish", 0.0 if discard else self._scale, int(discard))
        self._reset()

    def drop_not_finite(self) -> None:
        """Drops what a scaler will skip; the norm stays known for who clips, between the scaler's two calls."""
        norm = self.norm
        self.finish(discard=True)
        self.dropped_norm = norm

    def _reset(self) -> None:
        self.is_begun = self.has_gradients = False
        self._norm = self.dropped_norm = None
        self._scale = 1.0

    # ------------------------------------------------------------------------------------------------
    # Whether to

    def demand(self, what: str) -> None:
        """The script needs the norm.

        Raises:
            ArgumentError: where gradients have left without anybody waiting.
        """
        if not self.holds:
            why = "hold_gradients=False" if self._is_given else "the first step did without, so later ones are not held"
            raise ArgumentError(
                f"{what}: gradients of managed memory leave during backward, and the keepers did not wait "
                f"({why}); geeps.attach(..., memory='managed', hold_gradients=True) makes the keepers wait"
            )
        self._is_learning = False

    def end_step(self) -> None:
        """A step is over."""
        if self._is_learning:
            self._is_learning = self.holds = False
        self._reset()

    def require_readable(self, what: str) -> None:
        """Says at once what would otherwise be a wait for ever.

        Raises:
            ArgumentError: between the phases.
        """
        if self.is_added_up:
            raise ArgumentError(
                f"{what} between clip_grad_norm_ (or GradScaler.unscale_) and step(): the keepers have added up all "
                "gradients and owe new values; call step() first, or zero_grad() to drop the gradients"
            )

    def require_droppable(self) -> None:
        """Says that gradients cannot be taken back, instead of letting them count for the next step.

        Raises:
            ArgumentError: where gradients have left without anybody waiting.
        """
        if self.has_gradients and not self.is_begun:
            self.demand("zero_grad between backward and step")

    def require_no_gradients(self, what: str) -> None:
        """Says that the clock that ends this call would take gradients with it.

        Raises:
            ArgumentError: between the first gradient and ``step``.
        """
        if self.has_gradients:
            raise ArgumentError(
                f"{what} between backward and step() with managed memory: gradients are on their way to the keepers; "
                "call step() or zero_grad() first"
            )
