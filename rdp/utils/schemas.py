"""Earlier forms of what is kept as JSON, read as the present one: one step from each schema to the next.

A file is verified in the form in which it was written, read as the present form, and left as it is. A form of a later
version is refused by name. To change a form, raise its kind's ``schema`` and add the step from the one before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rdp.errors import UserError

Content = dict[str, Any]
Step = Callable[[Content, Callable[[], Content]], Content]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: as messages call it, with its article.
        schema: what this version writes.
        steps: by schema, how a content becomes one of the next; the second argument reads what the file was written
            beside, for a step that needs more than the file holds.
        told_by: the schema of a content, of earlier forms too.
    """

    name: str
    schema: int
    steps: Mapping[int, Step] = field(default_factory=dict)
    told_by: Callable[[Content], Any] = lambda content: content.get("schema")

    def check(self, path: Path, content: Content) -> int:
        """The schema of a content that this version reads.

        Raises:
            UserError: it is of a later version, or of none.
        """
        found = self.told_by(content)
        if type(found) is not int or found < min(self.steps, default=self.schema):
            raise UserError(f"{path}: damaged: {found!r} is no schema of {self.name}")
        if found > self.schema:
            later = f"made by a later version of rdp; this one reads up to schema {self.schema}"
            raise UserError(f"{path}: schema {found} of {self.name}, {later}")
        return found

    def present(self, path: Path, content: Content, beside: Callable[[], Content] | None = None) -> Content:
        """A verified content, in its present form."""
        for schema in range(self.check(path, content), self.schema):
            content = self.steps[schema](content, beside or dict)
        return content


def _told_by_receipt(content: Content) -> Any:
    # The first receipts had neither seal nor what was used; the next had no schema yet.
    return content.get("schema", int("used" in content or "seal" in content))


def _receipt_tells_of_its_record(content: Content, record: Callable[[], Content]) -> Content:
    """0 to 1: with what plans want to know, so that they need not read the record."""
    found = record()
    used = {name: found["telemetry"].get(name) for name in USED}
    return content | {"reason": found["reason"], "code": found["identity"].get("code"), "used": used}


def _receipt_names_the_stack(content: Content, record: Callable[[], Content]) -> Content:
    """1 to 2: None stands for what the record says; few want it, and a study may have 10,000 records."""
    return content | {"schema": 2, "stack": None}


USED = ("seconds", "process_peak_bytes", "device", "host", "ended")  # of a record's telemetry, in its receipt too
RECORD = Kind("a record", 1)  # the first ones had no seal, and are like the others in all else
RECEIPT = Kind("a receipt", 2, {0: _receipt_tells_of_its_record, 1: _receipt_names_the_stack}, _told_by_receipt)
DATASET = Kind("a prepared dataset", 1)
ADOPTION = Kind("an adoption", 1)
