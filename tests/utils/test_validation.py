"""Numbers in YAML files mean what most people read in them, or are refused."""

import pytest

from rdp.claims import model
from rdp.data.sources import image_folders
from rdp.errors import UserError
from rdp.utils import paths
from rdp.utils.validation import Strict, read_mapping, validate
from tests.helpers import folders


@pytest.fixture
def read(tmp_path):
    """Read one value as YAML."""

    def read(text: str) -> object:
        file = tmp_path / "file.yaml"
        file.write_text(f"key: {text}\n")
        return read_mapping(file, "a mapping")["key"]

    return read


class Numbers(Strict):
    whole: int = 0
    real: float | None = None
    several: tuple[float, ...] = ()
    switch: bool = False
    either: bool | int = 0


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("-10", -10), ("0.10", 0.1), ("00.5", 0.5), ("1_000", 1000), ("50_000.5", 50000.5), ("0x1F", 31)],
)
def test_unambiguous_numbers_are_read(text, value, read):
    assert read(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("010", 8), ("-010", -8), ("00", 0), ("1:30", 90), ("1:30:00", 5400), ("12:30.5", 750.5), ("2024_10", 202410)],
)
def test_numbers_that_yaml_reads_in_another_way_are_refused(text, value, read):
    with pytest.raises(UserError, match=rf"file\.yaml: .*{text}, which YAML reads as {value}; .*line 1, column 6"):
        read(text)
    assert read(f"'{text}'") == text


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "1.e-3", "0.001"])
def test_powers_of_ten_are_numbers_where_a_number_is_needed(text, read):
    assert validate(Numbers, {"real": read(text)}, "").real == 0.001


@pytest.mark.parametrize("text", ["yes", "off", "true"])
@pytest.mark.parametrize(("key", "place"), [("whole", "whole"), ("real", "real"), ("several", r"several\[1\]")])
def test_truth_values_are_no_numbers(text, key, place, read):
    value = read(text)
    with pytest.raises(ValueError, match=f"^at.{place}: a number is needed, found a truth value"):
        validate(Numbers, {key: [0.5, value] if key == "several" else value}, "at")
    assert validate(Numbers, {"switch": value, "either": value}, "").either is value


def test_claims_and_declarations_are_checked_too(tmp_path, small):
    file = tmp_path / "claims.yaml"
    file.write_text(paths.claims().read_text().replace("margin: 0.0", "margin: no", 1))
    with pytest.raises(UserError, match=r"claims\.yaml: claims\..*margin: a number is needed, found a truth value"):
        model.load(file)
    declared = folders.declare(small)
    declared.write_text(declared.read_text().replace("size: 16", "size: 020"))
    with pytest.raises(UserError, match=r"small\.yaml: .*020, which YAML reads as 16"):
        image_folders.declaration("small")
