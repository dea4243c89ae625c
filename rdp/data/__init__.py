"""Datasets: one file a source.

A source's file holds ``DATASETS`` (name -> `DatasetInfo`) and ``read(name, root, download)``, which returns
the arrays ``train_x``, ``train_y``, ``validation_x``, … of the three splits. To add a dataset, add a file.
A source whose images do not fit the device names the module of its mini-batches in ``BATCHES``: `image_folders`, which
needs no file of its own for another folder of images, but a declaration in ``config/datasets/``.

A source of which the files come from elsewhere may offer, for ``rdp data list``, ``fetch`` and ``verify``:

- ``files(name, root)``: the paths of the files that `read` needs, there or not;
- ``verify(name, root)``: one line for each file that is absent or damaged, naming it and what to do;
- ``fetch(name, root)``: download what is absent, verified. Without it, ``DatasetInfo.get`` says how to get the data.

One that needs no files says in ``BUNDLED`` why: "ships with scikit-learn".
Nothing is ever selected on the test split. `rdp.data.prepared` keeps what a source read, with its checksum.
"""

from functools import cache
from types import ModuleType

from rdp.data import sources
from rdp.data.info import DatasetInfo
from rdp.errors import UserError, choices
from rdp.utils import extensions

RESIDENT = "rdp.data.batches"


@cache
def _sources() -> dict[str, ModuleType]:
    modules = [extensions.load(f"{sources.__name__}.{name}", "DATASETS") for name in extensions.modules(sources)]
    found: dict[str, ModuleType] = {}
    for module in modules:
        for dataset in module.DATASETS:
            if found.setdefault(dataset, module) is not module:
                raise UserError(f"dataset {dataset}: {found[dataset].__name__} and {module.__name__} both have it")
    return found


def available() -> list[str]:
    """The names of all datasets."""
    return sorted(_sources())


def source(name: str) -> ModuleType:
    """The module that reads the dataset called ``name``; raises `UserError` where there is none."""
    if name not in _sources():
        raise UserError(f"unknown dataset '{name}'; {choices(name, available())}")
    return _sources()[name]


def info(name: str) -> DatasetInfo:
    """The facts of the dataset called ``name``."""
    found: DatasetInfo = source(name).DATASETS[name]
    return found


def loader(name: str) -> str:
    """The module whose ``TrainingBatches`` makes the mini-batches of the dataset called ``name``."""
    module: str = getattr(source(name), "BATCHES", RESIDENT)
    return module


def streamed(name: str) -> bool:
    """Whether the images of the dataset called ``name`` are read from their files while training goes on."""
    return loader(name) != RESIDENT
