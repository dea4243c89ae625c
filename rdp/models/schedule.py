"""A method in your own training loop, on any model whose residual branches can be found.

    model = timm.create_model("vit_tiny_patch16_224")
    schedule = rdp.ResidualDropPath(model, rate=0.1, seed=0)
    for step, (x, y) in enumerate(loader):
        with schedule.iteration(step):
            loss = criterion(model(x), y)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

A step is an optimizer step. With gradient accumulation, enter ``schedule.iteration(step)`` with the same step for
each of its mini-batches, and step the optimizer after the last. Gradient clipping, autocast with a gradient scaler,
and averages of weights need nothing: a frozen parameter has no gradient (None), and a copy of the model is a plain
model. Under DistributedDataParallel build it with ``find_unused_parameters=True``; the masks depend on seed and
step alone, so all processes draw the same. With torch.compile, call `Schedule.compile` in place of compiling the
model: each block is compiled for the forms it takes, where the whole model would be compiled for every mask.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rdp.errors import UserError
from rdp.methods import FrozenNorm, Granularity, Iteration, Method, method_class
from rdp.methods.masks import MaskSchedule
from rdp.models.gates import Gate
from rdp.models.units import Units
from rdp.utils.validation import validate

# A block has a form for each way its branches and its neighbours below are dropped, kept, trained or frozen.
_FORMS = 64


class Schedule:
    """Applies a method to a model, one optimizer step at a time.

    Args:
        model: any model whose residual branches `rdp.models.units.Units` finds; wrapped in DistributedDataParallel
            or not. It keeps its parameters, its state_dict and its class's name; `close` leaves it as it was found.
        method: a method that drops or freezes units.
        seed: of the masks, which depend on it and the step alone: a resumed loop draws the same.
        take_over: switch droppath modules of the model's own off for the schedule's life; where they are on and
            this is not said, the model is refused.

    Raises:
        UserError: a model without residual branches, one that drops paths itself, one that has a schedule already,
            or one in DistributedDataParallel without ``find_unused_parameters=True``.

    >>> import rdp, timm
    >>> model = timm.create_model("test_vit")
    >>> with rdp.Schedule(model, rdp.make_method("random_freeze", rate=0.5)) as schedule:
    ...     with schedule.iteration(0) as planned:
    ...         planned.kind, schedule.units[0], bool(planned.trained.all())
    ('freeze', 'blocks.0.drop_path1', False)
    """

    def __init__(self, model: nn.Module, method: Method, *, seed: int = 0, take_over: bool = False) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise UserError(f"seed: an integer greater than or equal to 0 is needed, found {seed!r}")
        self.model, self.method, self.seed = model, method, seed
        inner: Any = model
        self._told = False
        while isinstance(inner, DistributedDataParallel) or hasattr(inner, "_orig_mod"):
            if isinstance(inner, DistributedDataParallel):
                _check_distributed(inner)
                inner = inner.module
            else:  # torch.compile(model)
                _warn_of_recompiling()
                inner, self._told = inner._orig_mod, True
        self._units = Units(inner, method.unit_granularity, take_over=take_over)
        try:
            self._units.require()
            if any(gate.taken for gate in self._gates()):
                raise UserError(f"{type(inner).__name__}: it has a schedule already; close that one first")
        except UserError:
            self._units.ungate()
            raise
        for gate in self._gates():
            gate.taken = True
        self._last = -1
        self._inside = self._closed = self._compiled_whole = False
        self._compiled: list[nn.Module] = []
        self._hook = inner.register_forward_pre_hook(_Watch(self))

    def _gates(self) -> Iterator[Gate]:
        return (gate for gates in self._units.gates for gate in gates)

    @property
    def units(self) -> list[str]:
        """The names of the units, in the order of the forward pass."""
        return list(self._units.names)

    @contextmanager
    def iteration(self, step: int, *, batch_size: int | None = None) -> Iterator[Iteration]:
        """Make the model compute and train what optimizer step ``step`` (from 0) asks for.

        Run forward and backward inside, once or, with gradient accumulation, once for each mini-batch in a context
        of its own with the same step. Leaving it opens every branch and unfreezes every parameter.

        Args:
            step: not less than at the call before.
            batch_size: examples in the mini-batch; needed where masks are drawn for each example (``droppath``).

        Yields:
            What the step asks for.

        Raises:
            UserError: a step that goes backwards, a context inside another, a schedule that was closed, or
                gradients left in parameters that this step freezes.
        """
        if self._closed:
            raise UserError("schedule.iteration: the schedule was closed")
        if self._inside:
            raise UserError(f"schedule.iteration({step}): the iteration of step {self._last} has not ended")
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise UserError(f"schedule.iteration: a step is an integer from 0 on, found {step!r}")
        if step < self._last:
            raise UserError(f"schedule.iteration({step}): steps go forward, and the last one was {self._last}")
        if batch_size is None:
            if self.method.per_example:
                name = self.method.name()
                raise UserError(f"schedule.iteration: {name} draws a mask for each example; give batch_size")
            batch_size = 1
        planned = self.method.iteration(step, units=len(self._units), batch_size=batch_size, seed=self.seed)
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        self._units.apply(planned, device)
        if any(p.grad is not None for p in self._units.frozen()):
            self._units.release()
            raise UserError(
                f"schedule.iteration({step}): parameters that this step freezes hold gradients, which would move "
                "them; call optimizer.zero_grad(set_to_none=True) after every optimizer step"
            )
        self._last, self._inside = step, True
        try:
            yield planned
        finally:
            self._units.release()
            self._inside = False
            if self._compiled_whole and not self._told:
                self._told = True
                _warn_of_recompiling()

    def compile(self, **options: Any) -> None:
        """Compile the model block by block, with the options of torch.compile.

        A block is compiled once for each form it takes (dropped or kept, frozen or trained, with or without
        gradients to hand down), whatever the mask of the others; the first iterations wait for that.
        """
        config = torch._dynamo.config
        self._limit = config.recompile_limit
        config.recompile_limit = max(self._limit, _FORMS)
        for block in self._units.blocks:
            block.compile(**options)
            self._compiled.append(block)

    def close(self) -> None:
        """Leave the model as it was found. A closed schedule stays closed; closing it again does nothing.

        A model can be pickled whole only after that; its state_dict can be saved at any time.
        """
        if self._closed:
            return
        if self._inside:
            raise UserError("schedule.close: inside an iteration; leave it first")
        self._closed = True
        self._hook.remove()
        for block in self._compiled:
            block._compiled_call_impl = None
        if self._compiled:
            torch._dynamo.config.recompile_limit = self._limit
        for gate in self._gates():
            gate.taken = False
        self._units.restore()

    def __enter__(self) -> "Schedule":
        return self

    def __exit__(self, *_: object) -> None:
        self._inside = False
        self.close()


class ResidualDropPath(Schedule):
    """ResidualDroppath (arXiv 2411.09475) on any residual model, see `Schedule`.

    Args:
        model: as in `Schedule`.
        rate: drop probability of the deepest unit, in [0, 1), as in timm; at 0 every step is a full one.
        seed: of the masks.
        schedule: how the rate grows with depth: ``linear`` or ``uniform``.
        scaling: of kept branches in drop iterations: ``keep`` for 1 / (1 - rate), or ``none``.
        redraw: draw a mask that drops nothing again.
        frozen_norm: what batch normalisation does where parameters are frozen: ``update``, ``batch``, ``eval``.
        train_rest: train stem, down-sampling and head in recover iterations too.
        granularity: a unit is a ``branch`` or a whole ``block``.
        take_over: as in `Schedule`.

    Raises:
        UserError: as in `Schedule`, or an option that is wrong.

    >>> import rdp, timm, torch
    >>> model = timm.create_model("test_resnet", num_classes=10)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> schedule = rdp.ResidualDropPath(model, rate=0.5, seed=0)
    >>> for step in range(2):
    ...     with schedule.iteration(step) as planned:
    ...         model(torch.randn(4, 3, 32, 32)).logsumexp(1).mean().backward()
    ...     optimizer.step()
    ...     optimizer.zero_grad(set_to_none=True)
    ...     print(planned.kind)
    drop
    recover
    >>> schedule.close()  # the model is a plain one again
    """

    def __init__(
        self,
        model: nn.Module,
        rate: float,
        *,
        seed: int = 0,
        schedule: MaskSchedule = "linear",
        scaling: str = "keep",
        redraw: bool = True,
        frozen_norm: FrozenNorm = "update",
        train_rest: bool = False,
        granularity: Granularity = "branch",
        take_over: bool = False,
    ) -> None:
        method = make_method(
            "residual_droppath",
            rate=rate,
            schedule=schedule,
            scaling=scaling,
            redraw=redraw,
            frozen_norm=frozen_norm,
            train_rest=train_rest,
            granularity=granularity,
        )
        super().__init__(model, method, seed=seed, take_over=take_over)


def make_method(name: str, **options: Any) -> Method:
    """A method for `Schedule`.

    Args:
        name: of a file in ``rdp/methods/``: ``droppath``, ``droppath_batch``, ``random_freeze``, ``residual_droppath``.
        **options: of the method, as its class lists them: ``rate``, the deepest unit's, in [0, 1), and so on.

    Raises:
        UserError: an unknown name, or the first option that is wrong.

    >>> import rdp
    >>> rdp.make_method("droppath", rate=0.1).per_example  # so that schedule.iteration wants batch_size
    True
    """
    try:
        return validate(method_class(name), options, name)
    except ValueError as error:
        raise UserError(str(error)) from None


class _Watch:
    """Sees each call of the model, and refuses those that the schedule cannot have meant."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Unwatched":
        return _Unwatched()

    def __call__(self, model: nn.Module, inputs: Any) -> None:
        if torch.compiler.is_compiling():  # the model as a whole: its blocks alone do not pass through here
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


class _Unwatched:
    """What a copied model has in the watch's place."""

    def __call__(self, model: nn.Module, inputs: Any) -> None:
        return None


def _check_distributed(model: DistributedDataParallel) -> None:
    if not model.find_unused_parameters:
        raise UserError(
            "DistributedDataParallel: build it with find_unused_parameters=True; an iteration leaves parameters "
            "without gradients, and the processes would wait for them"
        )


def _warn_of_recompiling() -> None:
    warnings.warn(
        "the whole model is compiled: every new mask compiles it again, up to torch's limit, and then it runs "
        "uncompiled; compile block by block instead, with schedule.compile()",
        stacklevel=3,
    )
