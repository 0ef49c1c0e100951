"""The optimizer that ``geeps.attach`` returns."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import math
import sys
import weakref
from collections.abc import Callable
from typing import Any

import torch

from . import _device, _guards, _layout, _memory, _rendezvous, _rules, _state
from ._ahead import Ahead
from ._job import Job
from ._launch import Place
from ._managed import Managed
from ._resident import Resident
from ._two_phase import TwoPhaseClock
from .errors import ArgumentError, GeepsError

_live: weakref.WeakSet[Optimizer] = weakref.WeakSet()


class Optimizer(torch.optim.Optimizer):
    """A torch optimizer whose arithmetic runs at GeePS's keepers. Made by ``geeps.attach``.

    ``param_groups`` is the list of the optimizer that was attached, so learning-rate schedulers made for either work;
    ``state_dict`` and ``load_state_dict`` have torch's form.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        inner: torch.optim.Optimizer,
        place: Place,
        options: dict[str, object],
        wait_timeout: float,
        threshold: int,
        hold_gradients: bool | None,
        overlap: bool | None,
    ) -> None:
        self._is_ready = False
        super().__init__(inner.param_groups, inner.defaults)
        self.inner = inner
        self.param_groups = inner.param_groups
        self.state = inner.state
        self.model = model
        self.options = options
        self.place = place
        _guards.require_free(inner)
        self.tables = _layout.tables(model, inner)
        device = _device.of(self.tables[0].members[0].parameter)
        options = {**options, "device": device.option}
        if self._is_in_place:
            options["keeper_threads"] = min(torch.get_num_threads(), 64)
        rules = [_rules.rule(inner, self.param_groups[table.group]) for table in self.tables]
        self._rates = [rule.learning_rate for rule in rules]
        self._numbers = [_rules.numbers(rule) for rule in rules]
        _guards.attach(self)
        layouts = [(table.name, table.count, rule) for table, rule in zip(self.tables, rules, strict=True)]
        try:
            self._job = Job(options, layouts, wait_timeout, device)
            self._memory = self._make_memory(threshold, hold_gradients, overlap)
            try:
                self._start()
            except BaseException:
                self._ahead.close()
                with contextlib.suppress(GeepsError):
                    self._job.close(1.0)
                raise
        except BaseException:
            _guards.detach(self)
            raise
        self._is_ready = True
        _live.add(self)

    def _make_memory(
        self, threshold: int, hold_gradients: bool | None, overlap: bool | None
    ) -> Resident | Managed:
        waits_for_others = self.place.world_size > 1
        if not self._is_managed:
            self._clock = TwoPhaseClock(self._job, self.tables, waits_for_others, False)
            if overlap is None and self._is_in_place:
                overlap = False
            memory = Resident(self._job, self.tables, waits_for_others, overlap, self._tell_changes)
            self._ahead = memory.ahead
            return memory
        self._ahead = Ahead(self._job, [], False, lambda *_: None, lambda: None)
        self._clock = TwoPhaseClock(self._job, self.tables, waits_for_others, hold_gradients)
        return Managed(
            self.model, self._job, self.tables, threshold, waits_for_others, self._tell_changes, self._clock
        )

    @property
    def has_all_gradients(self) -> bool:
        """Whether ``grad`` is there, and all there is."""
        return self.place.world_size == 1 and not self._is_managed and not self._ahead.sent

    @property
    def _is_managed(self) -> bool:
        return self.options.get("memory") == "managed"

    @property
    def _is_in_place(self) -> bool:
        """Whether who hands gradients over runs the optimizer, on torch's number of threads.

        Resident memory then gains nothing by sending earlier than ``step``.
        """
        is_on_host = self.tables[0].members[0].parameter.device.type == "cpu"
        is_alone = self.place.world_size == 1 and self.options["staleness"] == 0
        return is_alone and is_on_host

    # ------------------------------------------------------------------------------------------------
    # Steps

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Hands the gradients to the keepers and takes the values that they answer.

        Parameters without a gradient keep their values and their optimizer state, as in torch.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not self._clock.is_added_up:
            self._hand_over(in_two_phases=False)
        if self._clock.is_begun:
            self._clock.finish()
        self._clock.end_step()
        self._memory.refresh()
        return loss

    def _hand_over(self, in_two_phases: bool) -> None:
        self._ahead.end_backward(self._tell_changes() | self._memory.prepare())
        if in_two_phases and not self._clock.is_begun:
            self._clock.begin()
        self._memory.send()
        self._job.clock()

    @torch.no_grad()
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Frees the gradients; those that have been handed over are dropped.

        Raises:
            ArgumentError: with managed memory that does not hold gradients, between ``backward`` and ``step``.
        """
        self._clock.require_droppable()
        self._ahead.drop()
        # First, so that what is left of a backward pass that failed does not leave any more.
        super().zero_grad(set_to_none)
        self._drop_held()
        self._clock.dropped_norm = None

    def _drop_held(self) -> None:
        """Every process does, or none: what has been added up is dropped."""
        if not self._clock.is_begun:
            return
        if not self._clock.is_added_up:
            self._clock.demand("zero_grad between backward and step")
            self._add_up()
        self._clock.finish(discard=True)
        self._memory.refresh()

    def _add_up(self) -> None:
        """Hands over the gradients, and lets the keepers wait for ``step`` with those of all processes."""
        self._hand_over(in_two_phases=True)
        self._clock.add_up()

    def _tell_changes(self) -> bool:
        """Passes on what schedulers have changed in ``param_groups``; whether there was something."""
        has_changed = False
        rules = [_rules.rule(self.inner, group) for group in self.param_groups]
        # By group, of which there are few: this is done twice in every step.
        numbers = [_rules.numbers(rule) for rule in rules]
        for index, table in enumerate(self.tables):
            rule = rules[table.group]
            if numbers[table.group] != self._numbers[index]:
                self._job.call("geeps_set_rule", index, ctypes.byref(rule))
                self._numbers[index] = numbers[table.group]
                self._rates[index] = rule.learning_rate
            elif rule.learning_rate != self._rates[index]:
                self._job.call("geeps_set_learning_rate", index, rule.learning_rate)
                self._rates[index] = rule.learning_rate
            else:
                continue
            has_changed = True
        return has_changed

    # ------------------------------------------------------------------------------------------------
    # State

    def state_dict(self) -> dict[str, Any]:
        """The state as the attached optimizer would save it; every process calls it."""
        self._clock.require_readable("state_dict")
        self._ahead.require_nothing_sent("state_dict between backward and step() reads what is not settled")
        _state.pull(self._job, self.tables, self.inner)
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the state that an optimizer of the same kind, attached or not, has saved; every process calls it."""
        self._clock.require_readable("load_state_dict")
        self._ahead.require_nothing_sent("load_state_dict between backward and step() would lose gradients")
        self.inner.load_state_dict(state_dict)
        self.param_groups = self.inner.param_groups
        self.state = self.inner.state
        self._tell_changes()
        _state.push(self._job, self.tables, self.inner)

    # ------------------------------------------------------------------------------------------------
    # Gradients

    def clip_grad_norm_(self, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> torch.Tensor:
        """Scales the gradients down so that their common norm is at most ``max_norm``; returns the norm.

        Call it where ``torch.nn.utils.clip_grad_norm_`` would stand, between ``backward`` and ``step``.
        """
        self._ahead.require_kept("clip_grad_norm_ needs all gradients")
        if not self.has_all_gradients:
            return self._clip_everywhere(max_norm, norm_type, error_if_nonfinite)
        with _guards.allowed():
            return torch.nn.utils.clip_grad_norm_(
                [member.parameter for table in self.tables for member in table.members],
                max_norm,
                norm_type,
                error_if_nonfinite,
            )

    @torch.no_grad()
    def _clip_everywhere(self, max_norm: float, norm_type: float, error_if_nonfinite: bool) -> torch.Tensor:
        """Adds the gradients of all processes up, and lets the keepers wait for ``step`` with what they have."""
        if norm_type != 2:
            raise ArgumentError(
                f"norm type {norm_type}: across processes and with managed memory GeePS clips by the 2-norm"
            )
        norm = self._clock.dropped_norm
        if norm is None:
            self._prepare_norm("clip_grad_norm_")
            norm = self._clock.clip(max_norm)
        if error_if_nonfinite and not math.isfinite(norm):
            self._drop_held()
            raise RuntimeError(f"the norm of the gradients of all processes is {norm}, so they cannot be clipped")
        return torch.tensor(norm, device=self._job.device.torch)

    def _prepare_norm(self, what: str) -> None:
        if self._is_managed:
            self._clock.demand(what)
        else:
            # ``grad`` is still there, and more may have come to it.
            self._drop_held()
        if not self._clock.is_added_up:
            self._add_up()

    @torch.no_grad()
    def _unscale(self, inverse_scale: float, is_infinite_here: Callable[[], bool]) -> bool:
        """For GradScaler: whether the gradients of some process are not finite, the same answer in every process.

        In managed memory, what the keepers have added up is scaled when they step; elsewhere ``is_infinite_here`` scales
        and looks at ``grad``.
        """
        if not self._is_managed:
            # Of an iteration whose step was skipped.
            self._drop_held()
            is_infinite = self._job.sum("gradients that are not finite", float(is_infinite_here())) > 0
            # Clipping what will be skipped would let the keepers wait for a step that does not come.
            self._clock.dropped_norm = math.inf if is_infinite else None
            return is_infinite
        self._prepare_norm("GradScaler")
        self._clock.scale(inverse_scale)
        if math.isfinite(self._clock.norm):
            return False
        # The scaler will skip the step, and the next forward pass wants values.
        self._clock.drop_not_finite()
        self._memory.refresh()
        return True

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused: tables are agreed on between all processes when the model is attached."""
        if getattr(self, "_is_ready", False):
            raise ArgumentError("parameters cannot be added after geeps.attach: close() this optimizer and attach again")
        super().add_param_group(param_group)

    # ------------------------------------------------------------------------------------------------
    # Beginning and end

    @torch.no_grad()
    def _start(self) -> None:
        for table in self.tables:
            values = torch.zeros(table.count)
            for member in table.members:
                values[member.offset : member.offset + member.count] = _memory.flat(member.parameter)
            self._job.call("geeps_initialise", table.index, values.data_ptr(), table.count)
        self._memory.start()
        if any(self.inner.state.get(member.parameter) for table in self.tables for member in table.members):
            _state.push(self._job, self.tables, self.inner)
        self._buffers = _rendezvous.BufferSync(self.model, self._job) if self.place.world_size > 1 else None

    def close(self, timeout: float = 60.0) -> None:
        """Leaves the job: the parameters become plain tensors with their last values. Every process calls it.

        The end of the program does it too. A second call does nothing.
        """
        if not self._is_ready or self._job.is_closed:
            return
        _live.discard(self)
        _guards.detach(self)
        if self._buffers:
            self._buffers.remove()
        try:
            with torch.no_grad():
                if self._clock.is_added_up:
                    self._clock.finish(discard=True)
                self._memory.close()
        finally:
            self._job.close(timeout)

    def __enter__(self) -> Optimizer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None and self.place.world_size > 1:
            self._job.abort(f"{type(error).__name__}: {error}")
        try:
            self.close(timeout=2.0 if error else 60.0)
        except GeepsError:
            # What went wrong first is what matters.
            if error is None:
                raise

    def report(self) -> dict[str, int]:
        """What has been counted since the model was attached."""
        counters: list[Any] = [self._job.counters()]
        if isinstance(self._memory, Managed):
            counters.append(self._job.memory())
        return {name: getattr(each, name) for each in counters for name, _ in each._fields_}

    def __repr__(self) -> str:
        return f"geeps.Optimizer({self.inner!r}, {len(self.tables)} tables, {self.place})"


def report() -> list[dict[str, int]]:
    """What every attached optimizer of this process has counted."""
    return [optimizer.report() for optimizer in list(_live)]


_excepthook = sys.excepthook


def _note_failure(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """A process that dies by an exception tells the others why, instead of leaving them to wait."""
    if isinstance(error, (AttributeError, TypeError)) and any(optimizer._ahead.sends for optimizer in _live):
        if "NoneType" in str(error):
            print(
                "geeps: gradients leave during the backward pass, and grad is None then; geeps.attach(..., overlap=False) "
                "keeps them until step()",
                file=sys.stderr,
            )
    for optimizer in list(_live):
        try:
            optimizer.__exit__(kind, error, traceback)
        except Exception as failure:
            print(f"geeps: {failure}", file=sys.stderr)
    _excepthook(kind, error, traceback)


sys.excepthook = _note_failure


@atexit.register
def _close_all() -> None:
    for optimizer in list(_live):
        try:
            optimizer.close()
        except Exception as failure:
            print(f"geeps: {failure}", file=sys.stderr)
