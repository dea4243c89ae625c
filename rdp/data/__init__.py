"""Datasets, one source file each.

To add a dataset, write ``extensions/datasets/NAME.py`` in the working directory (see `rdp.utils.extensions` for
installed packages). The sources of this package are in ``rdp/data/sources/``. Both follow the same contract. A source
module defines:

- ``DATASETS``: a mapping from dataset name to `DatasetInfo`. One source may define several datasets.
- ``read(name, root, download)``: returns the arrays ``train_x``, ``train_y``, ``validation_x``, … of the three splits,
  see `rdp.data.dataset.Prepared`. ``root`` is the data directory; ``download`` permits network access.

Nothing may be selected on the test split. Optional, for ``rdp data list``, ``fetch`` and ``verify``:

- ``BUNDLED``: why the dataset needs no files, for example "ships with scikit-learn".
- ``files(name, root)``: the paths of the files that ``read`` needs, existing or not.
- ``verify(name, root)``: one line per missing or damaged file, with its path and the remedy.
- ``fetch(name, root)``: download and verify the missing files. Without it, ``DatasetInfo.get`` tells people how to get
  the data.
- ``BATCHES``: the name of the module whose ``TrainingBatches`` makes the mini-batches, for images that do not fit into
  the memory of the device.

A folder of images needs no source file, only a declaration in ``config/datasets/`` (`rdp.data.sources.image_folders`).
`rdp.data.prepared` stores the arrays of a source with their checksum.
"""

from functools import cache
from types import ModuleType

from rdp.data import sources
from rdp.data.dataset import DatasetInfo
from rdp.errors import UserError, choices
from rdp.utils import extensions

RESIDENT = "rdp.data.batches"


@cache
def _sources() -> dict[str, ModuleType]:
    """The source module of each dataset, by dataset name."""
    modules: dict[str, ModuleType] = {}
    for file in extensions.modules(sources):
        module = extensions.load(f"{sources.__name__}.{file}", "DATASETS")
        for name in module.DATASETS:
            if name in modules:
                raise UserError(f"dataset {name}: {modules[name].__name__} and {module.__name__} both define it")
            modules[name] = module
    return modules


def available() -> list[str]:
    """The names of all datasets."""
    return sorted(_sources())


def source(name: str) -> ModuleType:
    """The module that reads a dataset; raises `UserError` for an unknown name."""
    if name not in _sources():
        raise UserError(f"unknown dataset '{name}'; {choices(name, available())}")
    return _sources()[name]


def info(name: str) -> DatasetInfo:
    """The properties of a dataset that are known before it is read."""
    dataset: DatasetInfo = source(name).DATASETS[name]
    return dataset


def batches_module(name: str) -> str:
    """The name of the module whose ``TrainingBatches`` makes the mini-batches of a dataset."""
    module: str = getattr(source(name), "BATCHES", RESIDENT)
    return module


def streamed(name: str) -> bool:
    """Whether training reads the images of a dataset from their files as needed."""
    return batches_module(name) != RESIDENT
