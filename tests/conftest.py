"""The order of all tests."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that run the workflow come first: begun last, the longest of them would leave a worker waiting."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)
