"""timm's ResNet-18 and ResNet-50 (arXiv 1512.03385, section 4.1), residual, plain and PNNH."""

from timm.models import resnet
from torch import nn

from rdp.models.convert import convert
from rdp.models.initialisation import unrectified
from rdp.models.paths import NetworkConfig
from rdp.models.timm_plain import set_gains

INPUT = "image"
ARCHITECTURES = {
    "resnet18": {"block": "BasicBlock", "layers": (2, 2, 2, 2), "widths": (64, 128, 256, 512)},
    "resnet50": {"block": "Bottleneck", "layers": (3, 4, 6, 3), "widths": (64, 128, 256, 512)},
}


def build(config: NetworkConfig, *, block: str, layers: tuple[int, ...], widths: tuple[int, ...]) -> nn.Module:
    """timm's network, for images of any size; a bottleneck's output is 4 times as wide as its entry in ``widths``."""
    network = resnet.ResNet(
        getattr(resnet, block), layers, num_classes=config.classes, in_chans=config.input_shape[0], channels=widths
    )
    set_gains(network, config.norm_gain)
    convert(network, config.path, config.norm_gain, config.pnnh)
    unrectified(network.fc)
    return network
