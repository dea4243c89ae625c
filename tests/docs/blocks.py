"""The fenced blocks of the documentation, and the commands in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
READMES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "config/README.md",
    "profiles/README.md",
    "results/recorded/README.md",
)
PAGES = (*READMES, *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")))

_FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?$')
_SNIPPET = re.compile(r'^--8<-- "([^"]+)"$', re.M)
_COMMENT = re.compile(r"(?:^|\s+)#\s.*$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: line of the first fence, from 1.
        language: language of the fence.
        title: path of the file that the block shows, or None.
        text: content, with included files.
    """

    page: str
    line: int
    language: str
    title: str | None
    text: str

    @property
    def place(self) -> str:
        """Page and line."""
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block without their comments."""
        assert self.language == "sh"
        lines = (_COMMENT.sub("", line).strip() for line in self.text.splitlines())
        return [line for line in lines if line]


def blocks(*pages: str) -> Iterator[Block]:
    """All blocks of the pages, in order."""
    for page in pages:
        opened, title, lines, start = None, None, [], 0
        for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1):
            fence = _FENCE.match(line)
            if opened is None and fence:
                (opened, title), lines, start = fence.groups(), [], number
            elif opened is None:
                assert not line.lstrip().startswith("```"), f"{page}:{number}: an indented fence, which no test reads"
            elif line == "```":
                text = _SNIPPET.sub(lambda match: (ROOT / match[1]).read_text().rstrip(), "\n".join(lines))
                assert title is None or text != "\n".join(lines), f"{page}:{start}: a titled block without a file"
                yield Block(page, start, opened, title, text + "\n")
                opened = None
            else:
                lines.append(line)
        assert opened is None, f"{page}:{start}: a block without an end"


def write_files(folder: Path, *pages: str) -> None:
    """Write the blocks that have a title to the files that their titles name."""
    for block in blocks(*pages):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            assert not path.exists(), f"{block.place}: {block.title} exists already"
            path.write_text(block.text)
