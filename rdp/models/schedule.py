"""Training a model by a method in your own loop, on any model whose residual branches can be found.

A step is an optimizer step. With gradient accumulation, enter ``schedule.iteration(step)`` with the same step for each
mini-batch, and step the optimizer after the last one. Gradient clipping, autocast with a gradient scaler, and averages
of weights need no changes: a frozen parameter has no gradient (None), and a copy of the model is a plain model.

With DistributedDataParallel, pass ``find_unused_parameters=True``. Masks depend only on seed and step, so all processes
draw the same. With torch.compile, call `Schedule.compile` instead of compiling the model: each block is compiled once
for each of its states, whereas the whole model would be compiled for every mask.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rdp.errors import UserError
from rdp.methods import FULL, Iteration, Method, Training
from rdp.models import blocks
from rdp.models.compiled import compile_blocks, restore_blocks
from rdp.models.gates import Gate
from rdp.models.learning_rates import LearningRateScale
from rdp.models.units import Units

# A block is compiled for each combination of dropped, computed, trained and frozen branches in it and before it.
_STATES = 64


class Schedule:
    """Applies a method to a model, one optimizer step at a time.

    Args:
        model: any model in which `rdp.models.units.Units` finds residual branches, with or without
            DistributedDataParallel. Parameters, state_dict and class name do not change; `close` restores the rest.
        method: a method that drops or freezes units, see `make_method`.
        seed: of the masks. A mask depends on seed and step only, so a resumed loop draws the same masks.
        take_over: switch off active droppath modules of the model until `close`. By default such a model is refused.
        example: an input of the model, for blocks whose forward depends on sizes: a tensor, a tuple of positional
            arguments, or a mapping of keyword arguments. The model runs on it once, in evaluation mode.
        steps: number of optimizer steps of the whole training; required by options that are shares of it.
        steps_per_epoch: number of optimizer steps in an epoch; required by options that count epochs.

    Raises:
        UserError: a model without residual branches, with an active droppath module, with another schedule, scripted,
            sharded by FSDP1, or in DistributedDataParallel without ``find_unused_parameters=True``; an option that
            needs a missing number.

    >>> import rdp, timm
    >>> model = timm.create_model("test_vit")
    >>> with rdp.Schedule(model, rdp.make_method("random_freeze", rate=0.5)) as schedule:
    ...     with schedule.iteration(0) as iteration:
    ...         iteration.kind, schedule.units[0], bool(iteration.trained.all())
    ('freeze', 'blocks.0.drop_path1', False)
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        *,
        seed: int = 0,
        take_over: bool = False,
        example: Any = None,
        steps: int | None = None,
        steps_per_epoch: int | None = None,
    ) -> None:
        _check_integer("seed", seed, 0)
        for name, number in (("steps", steps), ("steps_per_epoch", steps_per_epoch)):
            if number is not None:
                _check_integer(name, number, 1)
        self.model, self.method, self.seed = model, method, seed
        inner: Any = model
        self._warned = False
        while isinstance(inner, DistributedDataParallel) or hasattr(inner, "_orig_mod"):
            if isinstance(inner, DistributedDataParallel):
                _check_distributed(inner)
                inner = inner.module
            else:  # torch.compile(model)
                _warn_of_recompilation()
                inner, self._warned = inner._orig_mod, True
        if isinstance(inner, torch.jit.ScriptModule):
            raise UserError(
                f"{type(inner).__name__}: a scripted model cannot be changed; make the schedule for the model itself, "
                "without torch.jit.script (timm's --torchscript)"
            )
        if any(type(module).__name__ == "FullyShardedDataParallel" for module in inner.modules()):  # slow to import
            raise UserError(
                "FullyShardedDataParallel (FSDP1): it joins parameters of several branches into one, which cannot be "
                "frozen in part; use fully_shard (FSDP2)"
            )
        self._units = Units(inner, method.unit_granularity, take_over=take_over, example=example)
        try:
            self._units.require()
            self._training = Training(len(self._units), 1, seed, steps, steps_per_epoch)
            method.check(self._training)
            if any(gate.in_use for gate in self._gates()):
                raise UserError(f"{type(inner).__name__}: it has a schedule already; close that one first")
        except UserError:
            self._units.ungate()
            raise
        for gate in self._gates():
            gate.in_use = True
        if left := self._units.undeclared():
            _warn_of_undeclared(inner, left)
        if example is None and (left := self._units.untraced()):
            _warn_of_untraced(inner, left)
        for name, reason in self._units.inconstant().items():
            warnings.warn(f"{name or 'the model'}: its branches are no units: {reason}", stacklevel=2)
        self._last_step, self._planned = -1, FULL
        self._scales: dict[torch.optim.Optimizer, LearningRateScale] = {}
        self._inside = self._closed = self._compiled = self._compiled_whole = False
        self._hook = inner.register_forward_pre_hook(_CallCheck(self))

    def _gates(self) -> Iterator[Gate]:
        return (gate for gates in self._units.gates for gate in gates)

    @property
    def units(self) -> list[str]:
        """The names of the units, in the order of the forward pass."""
        return list(self._units.names)

    @contextmanager
    def iteration(self, step: int, *, batch_size: int | None = None) -> Iterator[Iteration]:
        """Set the model to compute and train what the method plans for optimizer step ``step``.

        Run forward and backward inside. With gradient accumulation, open one context per mini-batch with the same
        step. On exit every branch is computed and every parameter is trained again. A call in evaluation mode computes
        every branch inside too. A step that would train only parameters that you froze is a full step.

        Args:
            step: from 0, at least that of the call before.
            batch_size: examples in the mini-batch; required by methods that draw one mask per example (``droppath``).

        Yields:
            The iteration: which units are active, at what scale, and which are trained.

        Raises:
            UserError: a step that goes back, a context inside another, a closed schedule, a scaled learning rate
                without `attach`, or, on exit, gradients in parameters that this step freezes.
        """
        if self._closed:
            raise UserError("schedule.iteration: the schedule was closed")
        if self._inside:
            raise UserError(f"schedule.iteration({step}): the iteration of step {self._last_step} has not ended")
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise UserError(f"schedule.iteration: expected a step of 0 or more, an integer, got {step!r}")
        if step < self._last_step:
            raise UserError(f"schedule.iteration({step}): steps cannot go back, and the last one was {self._last_step}")
        if batch_size is None:
            if self.method.per_example:
                name = self.method.name()
                raise UserError(f"schedule.iteration: {name} draws one mask per example; pass batch_size")
            batch_size = 1
        planned = self.method.iteration(step, replace(self._training, batch_size=batch_size))
        if planned.learning_rate_scale != 1 and not self._scales:
            raise UserError(
                f"schedule.iteration({step}): this step multiplies the learning rate by "
                f"{planned.learning_rate_scale:g}; call schedule.attach(optimizer) before the first step"
            )
        self._units.refresh()
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        self._units.apply(planned, device)
        if self._units.frozen() and not any(p.requires_grad for p in self.model.parameters()):
            planned = FULL  # the user froze all that this step would train
            self._units.apply(planned, device)
        self._last_step, self._planned, self._inside = step, planned, True
        try:
            yield planned
            self.check_gradients()
        finally:
            self._units.release()
            self._inside = False
            if self._compiled_whole and not self._warned:
                self._warned = True
                _warn_of_recompilation()

    def check_gradients(self) -> None:
        """Raise `UserError` if parameters that the current iteration freezes hold gradients of an earlier one.

        The optimizer would move them. An iteration checks this when it ends. A loop that steps the optimizer inside
        the iteration can call it before ``optimizer.step()``.
        """
        if any(p.grad is not None for p in self._units.frozen()):
            raise UserError(
                f"schedule.iteration({self._last_step}): parameters that this step freezes hold gradients, which would "
                "move them; between two steps, before the backward pass, call zero_grad(set_to_none=True) of the "
                "model or of every optimizer"
            )

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Multiply the optimizer's learning rates by the factor of each iteration, as ``recover_lr_scale`` asks.

        The rates are multiplied during ``optimizer.step()`` and restored after it, so learning rate schedulers need no
        changes. Call it for each optimizer of the model; of a wrapper, such as Accelerate's, the optimizer inside is
        attached. `close` ends it.

        Raises:
            UserError: a closed schedule, or LBFGS, which moves parameters without gradients.
        """
        if self._closed:
            raise UserError("schedule.attach: the schedule was closed")
        while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
            optimizer = inner
        if isinstance(optimizer, torch.optim.LBFGS):
            raise UserError(
                "schedule.attach: LBFGS moves the parameters that an iteration freezes, in a direction from earlier "
                "steps; use an optimizer that leaves parameters without gradients as they are, such as SGD or AdamW"
            )
        if optimizer not in self._scales:
            self._scales[optimizer] = LearningRateScale(optimizer, lambda: self._planned.learning_rate_scale)

    def compile(self, **options: Any) -> None:
        """Compile the model block by block, with the options of torch.compile.

        A block is compiled once for each of its states, whatever the mask of other blocks. So the first iterations are
        slow.
        """
        config = torch._dynamo.config
        self._limit = config.recompile_limit
        config.recompile_limit = max(self._limit, _STATES)
        compile_blocks(self._units, **options)
        self._compiled = True

    def close(self) -> None:
        """Restore the model. A second call does nothing; a closed schedule cannot be used again.

        A copy of the model, and a pickled one, is restored at any time. Copied inside an iteration, it has the frozen
        parameters of that iteration.
        """
        if self._closed:
            return
        if self._inside:
            raise UserError("schedule.close: inside an iteration; leave it first")
        self._closed = True
        self._hook.remove()
        if self._compiled:
            restore_blocks(self._units)
            torch._dynamo.config.recompile_limit = self._limit
        for gate in self._gates():
            gate.in_use = False
        for scale in self._scales.values():
            scale.remove()
        self._units.restore()

    def __enter__(self) -> "Schedule":
        return self

    def __exit__(self, *_: object) -> None:
        self._inside = False
        self.close()


class _CallCheck:
    """A forward pre-hook that refuses calls of the model outside an iteration."""

    def __init__(self, schedule: Schedule | None) -> None:
        self.schedule = schedule

    def __reduce__(self) -> Any:
        """A copied or pickled model belongs to no schedule."""
        return _CallCheck, (None,)

    @property
    def __name__(self) -> str:
        """Asked for by torch.jit.script only, which compiles hooks by name."""
        raise blocks.scripting_error()

    def __call__(self, model: nn.Module, inputs: Any) -> None:
        if self.schedule is None:
            return
        if getattr(model, "_is_replica", False):
            raise UserError(
                "DataParallel: its copies of the model cannot be scheduled; use DistributedDataParallel, and start one "
                "process for each GPU with torchrun or accelerate launch"
            )
        if self.schedule._inside:
            self.schedule._units.switch(model.training)
        if torch.compiler.is_compiling():  # the whole model is compiled: separately compiled blocks do not call this
            self.schedule._compiled_whole = True
            return
        if model.training and not self.schedule._inside:
            raise UserError(
                f"{type(model).__name__}: called in training mode outside `with schedule.iteration(step)`; "
                "call model.eval() to evaluate, or schedule.close()"
            )
        wrapper = getattr(DistributedDataParallel, "_active_ddp_module", None)
        if wrapper is not None and model.training:
            _check_distributed(wrapper)


def _check_integer(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name}: expected an integer greater than or equal to {least}, got {value!r}")


def _check_distributed(model: DistributedDataParallel) -> None:
    if not model.find_unused_parameters:
        raise UserError(
            "DistributedDataParallel: pass find_unused_parameters=True; an iteration leaves parameters without "
            "gradients, and the processes would wait for them"
        )


def _warn_of_undeclared(model: nn.Module, names: list[str]) -> None:
    warnings.warn(
        "residual branches in these modules are no units, because nothing declares their ends: "
        f"{_by_class(model, names)}; rdp.find_units(model, example) lists them, and what to register",
        stacklevel=3,
    )


def _warn_of_untraced(model: nn.Module, names: list[str]) -> None:
    warnings.warn(
        "the forward passes of these modules cannot be traced without an example, so residual branches in them are no "
        f"units: {_by_class(model, names)}; pass an input of the model as example",
        stacklevel=3,
    )


def _by_class(model: nn.Module, names: list[str]) -> str:
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(type(model.get_submodule(name)).__name__, []).append(name)
    return ", ".join(f"{len(found)} {kind} ({found[0]}{', …' * (len(found) > 1)})" for kind, found in kinds.items())


def _warn_of_recompilation() -> None:
    warnings.warn(
        "the whole model is compiled: every new mask compiles it again, up to torch's limit, and then it runs "
        "uncompiled; compile block by block instead, with schedule.compile()",
        stacklevel=3,
    )
