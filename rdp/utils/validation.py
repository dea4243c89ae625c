"""Reads and validates YAML files, with a one-line message for the first error."""

import re
import reprlib
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from rdp.errors import UserError, choices, os_errors

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # all but tabs and newlines
_GROUPED = re.compile(r"\d{1,3}(_\d{3})+(\.\d*)?")  # 1_000
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_brief = reprlib.Repr()  # shortens values of any size
_brief.maxstring = _brief.maxother = _brief.maxlong = 200


M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """An immutable model that rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Loader(yaml.SafeLoader):  # type: ignore[misc] # yaml has no types
    """Loads YAML's safe types only.

    It rejects duplicate keys, of which the last would win silently, control characters, which a terminal would obey,
    integers of more than 64 bits, and numbers that YAML 1.1 reads in another way than most people: 010 as octal, 1:30
    in base 60, and 2024_10 without its underscore.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError) as error:  # 2001-99-99, 0x_, !!bool maybe
            raise yaml.constructor.ConstructorError(None, None, f"not a value ({error})", node.start_mark) from None
        if node.tag in _NUMBERS and _misleading(node.value):
            text = f"{node.value}, which YAML reads as {value}; write the number that is meant, or put a text in quotes"
            raise yaml.constructor.ConstructorError(None, None, text, node.start_mark)
        if isinstance(value, int) and abs(value) >= 2**63:
            raise yaml.constructor.ConstructorError(None, None, "a number too large", node.start_mark)
        if isinstance(value, str) and _CONTROL.search(value):
            raise yaml.constructor.ConstructorError(None, None, "a text with control characters", node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                line = node.value[i][0].start_mark.line + 1
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key '{key}' in line {line}")
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _misleading(number: str) -> bool:
    """Whether YAML 1.1 reads a number in another way than most people would."""
    digits = number.lstrip("+-")
    grouped = "_" not in digits or _GROUPED.fullmatch(digits)
    return ":" in digits or not grouped or (len(digits) > 1 and digits[0] == "0" and digits.isdecimal())


def read_mapping(file: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML file. ``what`` describes it in the error message, such as "a mapping".

    Raises:
        UserError: the file cannot be read or does not hold a mapping; one line with its path.
    """
    with os_errors(file):
        return parse_mapping(file, file.read_bytes(), what)


def parse_mapping(file: Path, text: bytes, what: str) -> dict[str, Any]:
    """Like `read_mapping`, from the bytes of the file."""
    try:
        content = yaml.load(text.decode(), Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not readable as YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{file}: not readable as YAML: nested too deeply") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: {what} of keys, found {type(content).__name__}")
    return content


def check_names(where: str, names: list[str], valid: Collection[str]) -> None:
    """Raise `ValueError` for the first name that is not ``valid``, with the nearest valid one."""
    for name in names:
        if name not in valid:
            raise ValueError(f"{where}: unknown name '{name}'; {choices(name, valid)}")


def validate(model: type[M], content: dict[str, Any], where: str, *, beside: Collection[str] = ()) -> M:
    """The model of the content. The message of the first error is ``key: error; valid values``.

    Args:
        model: the class of the result.
        content: its keys and values.
        where: position of the content in its file, such as ``grids[0]``; empty for all of it.
        beside: other valid keys, for the message.

    Raises:
        ValueError: the content is invalid; one line.
    """
    if not all(isinstance(key, str) for key in content):
        raise ValueError(f"{where or 'study'}: every key must be text")
    try:
        valid = model(**content)
    except ValidationError as error:
        raise ValueError(_explain(error, model, where, beside)) from None
    if (place := _truth_as_number(content, valid, where)) is not None:
        raise ValueError(f"{place}: a number is needed, found a truth value; YAML reads yes, no, on and off as such")
    return valid


def _truth_as_number(given: Any, read: Any, place: str) -> str | None:
    """The place of a truth value that pydantic took for 0 or 1; None if there is none."""
    if isinstance(given, bool):
        return place if isinstance(read, int | float) and not isinstance(read, bool) else None
    if isinstance(given, dict):
        values = read.__dict__ | (read.model_extra or {}) if isinstance(read, BaseModel) else read
        pairs = [(given[key], values.get(key), f"{place}.{key}" if place else str(key)) for key in given]
    elif isinstance(given, list) and isinstance(read, list | tuple):
        pairs = [(one, other, f"{place}[{i}]") for i, (one, other) in enumerate(zip(given, read, strict=False))]
    else:
        return None
    found = (_truth_as_number(*pair) for pair in pairs)
    return next((inner for inner in found if inner is not None), None)


def _explain(error: ValidationError, model: type[BaseModel], where: str, beside: Collection[str]) -> str:
    errors = error.errors()
    # A misspelt key also makes the right one missing: report the cause.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    place = where
    for part in first["loc"]:
        if isinstance(part, int):
            place += f"[{part}]"
        elif re.fullmatch(r"[\w-]+", part):  # pydantic adds the names of union members
            place += f".{part}" if place else part
    if first["type"] == "extra_forbidden":
        owner = _owner(model, first["loc"][:-1])
        known = set(owner.model_fields) | (set(beside) if owner is model else set())
        return f"{place}: unknown key; {choices(first['loc'][-1], known)}"
    if first["type"] == "value_error":  # our own message, with its position
        message = str(first["ctx"]["error"])
        return message if not first["loc"] else f"{place}: {message}"
    shown = "" if first["type"] == "missing" else f", found {_brief.repr(first['input'])}"
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}{shown}"


def _owner(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """The model, nested in ``model``, that has the field at this position."""
    for part in loc:
        if part in model.model_fields:
            model = _models_in(model.model_fields[part].annotation) or model
    return model


def _models_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in typing.get_args(annotation) if (model := _models_in(inner))), None)
