"""timm's ResNet-18 and ResNet-50 (arXiv 1512.03385, section 4.1), residual, plain and PNNH."""

from timm.models import resnet
from torch import nn

from rdp.models.convert import set_path
from rdp.models.paths import with_gain

INPUT = "image"
ARCHITECTURES = {
    "resnet18": {"block": "BasicBlock", "layers": (2, 2, 2, 2), "widths": (64, 128, 256, 512)},
    "resnet50": {"block": "Bottleneck", "layers": (3, 4, 6, 3), "widths": (64, 128, 256, 512)},
}


def build(
    block: str,
    layers: tuple[int, ...],
    widths: tuple[int, ...],
    *,
    path: str,
    path_options: dict[str, object],
    norm_gain: float,
    input_shape: tuple[int, ...],
    classes: int,
) -> nn.Module:
    """timm's network, for images of any size; a bottleneck's output is four times as wide as ``widths`` say."""
    network = resnet.ResNet(
        getattr(resnet, block), layers, num_classes=classes, in_chans=input_shape[0], channels=widths
    )
    for module in network.modules():
        if isinstance(module, resnet.BasicBlock):
            with_gain(module.bn2, norm_gain)
        elif isinstance(module, resnet.Bottleneck):
            with_gain(module.bn3, norm_gain)
    set_path(network, path, norm_gain=norm_gain, **path_options)
    network.fc.feeds_rectifier = False
    return network
