"""ResidualDroppath (arXiv 2411.09475) and other methods by name, for `rdp.models.schedule.Schedule`."""

from typing import Any

from torch import nn

from rdp.errors import UserError
from rdp.methods import FrozenNorm, Granularity, Method, method_class
from rdp.methods.dropping import Hold, MaskSchedule
from rdp.models.schedule import Schedule
from rdp.utils.validation import validate


class ResidualDropPath(Schedule):
    """ResidualDroppath (arXiv 2411.09475) on any residual model.

    Two kinds of iteration alternate. A *drop* iteration drops a random set of units and trains the others. The
    *recover* iteration after it computes all units and trains only those that were dropped.

    Args:
        model: as in `Schedule`.
        rate: drop probability of the deepest unit, in [0, 1), as in timm; with 0 every iteration is a full one.
        seed: of the masks.
        schedule: of the rate over depth: ``linear`` or ``uniform``.
        scaling: of the computed branches in drop iterations: ``keep`` for 1 / (1 - rate), or ``none``.
        redraw: redraw a mask that drops no unit.
        frozen_norm: batch normalisation with frozen parameters: ``update``, ``batch`` or ``eval``, see
            `rdp.methods.Iteration`.
        train_rest: train stem, down-sampling and head in recover iterations too.
        recover_lr_scale: factor on the learning rate of recover iterations; other values than 1 need
            `Schedule.attach`.
        granularity: a unit is a ``branch`` or a whole ``block``.
        hold: number of consecutive pairs of iterations with the same mask, or ``epoch`` for all that begin in an epoch
            (needs ``steps_per_epoch``).
        drop_from: share of the training before the first drop; iterations before are full (needs ``steps``).
        drop_until: share of the training after which no unit is dropped; iterations after are full (needs ``steps``).
        take_over: as in `Schedule`.
        example: as in `Schedule`.
        steps: as in `Schedule`.
        steps_per_epoch: as in `Schedule`.

    Raises:
        UserError: as in `Schedule`, or an invalid option.

    >>> import rdp, timm, torch
    >>> model = timm.create_model("test_resnet", num_classes=10)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> schedule = rdp.ResidualDropPath(model, rate=0.5, seed=0)
    >>> for step in range(2):
    ...     with schedule.iteration(step) as iteration:
    ...         model(torch.randn(4, 3, 32, 32)).logsumexp(1).mean().backward()
    ...     optimizer.step()
    ...     optimizer.zero_grad(set_to_none=True)
    ...     print(iteration.kind)
    drop
    recover
    >>> schedule.close()  # restores the model
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
        recover_lr_scale: float = 1.0,
        granularity: Granularity = "branch",
        hold: Hold = 1,
        drop_from: float = 0.0,
        drop_until: float = 1.0,
        take_over: bool = False,
        example: Any = None,
        steps: int | None = None,
        steps_per_epoch: int | None = None,
    ) -> None:
        method = make_method(
            "residual_droppath",
            rate=rate,
            schedule=schedule,
            scaling=scaling,
            redraw=redraw,
            frozen_norm=frozen_norm,
            train_rest=train_rest,
            recover_lr_scale=recover_lr_scale,
            granularity=granularity,
            hold=hold,
            drop_from=drop_from,
            drop_until=drop_until,
        )
        super().__init__(
            model,
            method,
            seed=seed,
            take_over=take_over,
            example=example,
            steps=steps,
            steps_per_epoch=steps_per_epoch,
        )


def make_method(name: str, **options: Any) -> Method:
    """Create a method for `Schedule`.

    Args:
        name: ``droppath``, ``droppath_batch``, ``random_freeze``, ``residual_droppath`` or a file in
            ``extensions/methods/``.
        **options: the fields of the method's class, such as ``rate``, the drop probability of the deepest unit in
            [0, 1).

    Raises:
        UserError: an unknown name, or an invalid option.

    >>> import rdp
    >>> rdp.make_method("droppath", rate=0.1).per_example  # schedule.iteration needs batch_size
    True
    """
    try:
        return validate(method_class(name), options, name)
    except ValueError as error:
        raise UserError(str(error)) from None
