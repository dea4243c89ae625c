"""The plain and the PNNH form of timm's ResNets and vision transformers (arXiv 2402.08645).

Plain: every residual block without its shortcut. Its layers keep their names, so both forms start with the same
weights. PNNH: every residual branch, or each of the two layers of a basic block, becomes a learner beside a coder that
all layers of equal shape share. A block that changes the shape is plain, because a coder maps a width onto itself.
"""

from typing import Any

from timm.layers.attention_pool import AttentionPoolLatent
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rdp.errors import UserError
from rdp.methods.options import PnnhOptions
from rdp.models.branch_ends import branch_ends
from rdp.models.initialisation import initialise
from rdp.models.paths import PnnhStack, with_gain
from rdp.models.timm_features import describe
from rdp.models.timm_plain import PlainSequence, plain
from rdp.models.timm_pnnh import resnet_stages
from rdp.models.timm_transformer import transformer_stack


def set_path(model: nn.Module, path: str, *, norm_gain: float = 1.0, seed: int = 0, **options: object) -> nn.Module:
    """Convert a timm model to another path in place, and return it. A model that is refused stays unchanged.

    Weights of unchanged layers are kept: stem, head and, in a plain model, all layers but the gains set by
    ``norm_gain``. Learners and coders of ``pnnh`` (arXiv 2402.08645; this project's reading, see `rdp.models.paths`)
    are new, and so are layers whose width changes. `rdp.start_from` loads a released checkpoint where names and shapes
    agree.

    Args:
        model: a ResNet of basic or bottleneck blocks, or a vision transformer of plain blocks.
        path: ``residual`` (unchanged), ``plain`` or ``pnnh``.
        norm_gain: initial gain of the norm that ends each block's branch or learner; in a transformer, of the norm in
            front of it. timm starts a ResNet's at 0, with which a block without shortcut outputs nothing.
        seed: of the initial weights of PNNH layers.
        **options: of ``pnnh``, see `rdp.methods.options.PnnhOptions`.

    Raises:
        UserError: a model, block or width without such a form.

    >>> import rdp, timm, torch
    >>> model = rdp.set_path(timm.create_model("test_vit", img_size=32, num_classes=10), "pnnh", variant="sum")
    >>> model(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return convert(model, path, norm_gain, PnnhOptions.read(options, path), seed)


def convert(model: nn.Module, path: str, norm_gain: float, options: PnnhOptions, seed: int = 0) -> nn.Module:
    """Convert a timm model as `set_path` does, with checked options."""
    if path == "residual":
        return model
    if not isinstance(model, ResNet | VisionTransformer):
        raise UserError(
            f"{type(model).__name__}: no {path} form is known; only timm's ResNet and VisionTransformer have one"
        )
    if any(isinstance(module, PnnhStack | PlainSequence) for module in model.modules()):
        raise UserError(f"{type(model).__name__}: its path is not residual any more; build a new model")
    names = ("layer1", "layer2", "layer3", "layer4") if isinstance(model, ResNet) else ("blocks",)
    blocks: list[list[Any]] = [list(model.get_submodule(name)._modules.values()) for name in names]  # with repetitions
    _check(model, dict(zip(names, blocks, strict=True)), path)
    forms: list[nn.Module]
    if path == "plain":
        forms = [nn.Sequential(*map(plain, stage)) for stage in blocks]
    elif isinstance(model, ResNet):
        forms = [*resnet_stages(blocks, norm_gain, options)]
    else:
        forms = [transformer_stack(blocks[0], norm_gain, options)]
    kept, parameter = {id(module) for module in model.modules()}, next(model.parameters())
    for name, stage in zip(names, forms, strict=True):  # only after every stage is known to have the form
        setattr(model, name, stage)
        for inner, module in stage.named_modules(prefix=name):
            if id(module) not in kept and not any(module.children()):
                initialise(module, seed, prefix=inner)
            if isinstance(module, PlainSequence):
                for norm in module.gains:
                    with_gain(module.get_submodule(norm), norm_gain)
        stage.to(device=parameter.device, dtype=parameter.dtype)
    if path == "pnnh":
        describe(model)
    return model


def _check(model: nn.Module, stages: dict[str, list[Any]], path: str) -> None:
    """Raise `UserError` for what would be lost, or stay residual, if only the blocks of ``stages`` were converted."""
    kind = type(model).__name__
    for name, stage in stages.items():
        if not stage:
            raise UserError(f"{kind}: '{name}' has no blocks")
        if path == "pnnh" and len({id(block) for block in stage}) < len(stage):
            raise UserError(f"{kind}: '{name}' uses one block in several places, and its pnnh form would not")
    for name, module in model.named_modules():
        if name.partition(".")[0] not in stages and (branch_ends(module) or _adds(module)):
            raise UserError(
                f"{kind}: '{name}' ({type(module).__name__}) is residual, and no {path} form is known outside of "
                + ", ".join(stages)
            )


def _adds(module: nn.Module) -> bool:
    """Whether a module is timm's attention pooling with an MLP, which has a shortcut without droppath."""
    return isinstance(module, AttentionPoolLatent) and module.mlp is not None
