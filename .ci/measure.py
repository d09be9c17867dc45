"""Measure how the code is divided: lengths and names of functions, import chains, commit subjects.

    ./dev.py lint --measure        print a table; docs/design/0017-the-house-second-plan.md has earlier ones

A private function has one leading underscore. It is used once if its name occurs exactly twice in its own file.
The words of a name are separated by underscores. Floors are the length of the longest import chain, arrows the
number of imports: between all modules of a package, and between its direct children. Migrations are left out.
Standard library only.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from prose import faults, read_words

ROOMS = ("portal", "model_ops", "access_requests")
PACKAGES = ("access_requests.services", "model_ops.services", "model_ops.recovery")
# Names that Python, Django, Celery or gunicorn chose, and that we only implement.
FIXED = frozenset(
    {
        "add_arguments", "check", "clean", "close", "configure", "configure_user", "contribute_to_class",
        "delete", "form_valid", "formfield_for_foreignkey", "get", "get_absolute_url", "get_form",
        "get_queryset", "get_urls", "handle", "handle_request", "has_add_permission", "has_change_permission",
        "has_delete_permission", "has_module_permission", "has_view_permission", "init_process", "lookups",
        "media", "open", "post", "queryset", "read", "ready", "render", "run", "save", "send_mail", "start",
        "stop", "validate", "write",
    }
)  # fmt: skip
WORDS = Path(__file__).with_name("words.txt")


@dataclass(frozen=True)
class Function:
    """A function or method: its name, its length in lines, and how often its name occurs in its file."""

    name: str
    lines: int
    occurs: int

    @property
    def is_private(self) -> bool:
        return self.name.startswith("_") and not self.name.startswith("__")

    @property
    def words(self) -> int:
        return len([word for word in self.name.split("_") if word])

    @property
    def is_ours(self) -> bool:
        """Return whether we chose the name."""
        return not self.name.startswith("__") and self.name not in FIXED


def sources() -> list[Path]:
    """Return the Python files of the three top-level packages, without migrations."""
    return [
        path for room in ROOMS for path in sorted(Path(room).rglob("*.py")) if "migrations" not in path.parts
    ]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[Function]:
    """Yield each function and method of a file."""
    names = re.findall(r"\w+", path.read_text(encoding="utf-8"))
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(node.name, (node.end_lineno or 0) - node.lineno + 1, names.count(node.name))


def module_of(path: Path) -> str:
    name = ".".join(path.with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(package: str) -> dict[str, set[str]]:
    """Return, for each module of a package, the other modules that it imports, even inside functions."""
    paths = {module_of(path): path for path in sources()}
    inside = {name: path for name, path in paths.items() if name.startswith(f"{package}.")}
    return {name: set(_imported(path, name, inside)) for name, path in inside.items()}


def _imported(path: Path, module: str, inside: Iterable[str]) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in inside else node.module for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def by_room(package: str, arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the imports between the folders of a package and its modules outside of any folder."""

    def room(name: str) -> str:
        return name.removeprefix(f"{package}.").partition(".")[0]

    found: dict[str, set[str]] = {}
    for name, others in arrows.items():
        found.setdefault(room(name), set()).update(room(other) for other in others if other in arrows)
    return {name: others - {name} for name, others in found.items()}


def count(arrows: dict[str, set[str]]) -> int:
    """Return how many imports there are between these."""
    return sum(other in arrows for others in arrows.values() for other in others)


def floors(arrows: dict[str, set[str]]) -> int:
    """Return the number of modules in the longest import chain; an import that closes a cycle is left out."""
    known: dict[str, int] = {}

    def above(module: str, below: frozenset[str]) -> int:
        if module not in known:
            others = [other for other in arrows[module] if other in arrows and other not in below]
            known[module] = 1 + max((above(other, below | {module}) for other in others), default=0)
        return known[module]

    return max(above(module, frozenset({module})) for module in sorted(arrows))


def share(part: Iterable[object], whole: Iterable[object]) -> str:
    return f"{100 * len(list(part)) / len(list(whole)):.0f} %"


def subjects(count: int = 100) -> list[int]:
    """Return the lengths of the newest commit subjects, or an empty list without git."""
    said = subprocess.run(
        ["git", "log", f"-{count}", "--format=%s"], capture_output=True, text=True, check=False
    )
    return sorted(len(line) for line in said.stdout.splitlines())


def table() -> Iterator[tuple[str, str]]:
    """Yield each measure with its value."""
    paths = sources()
    found = [function for path in paths for function in functions(path)]
    lengths = sorted(function.lines for function in found)
    ours = [function for function in found if function.is_ours]
    parts = statistics.quantiles(lengths, n=100)
    yield "functions", f"{len(found):,}"
    yield "function lines p90 / p99 / max", f"{parts[89]:.0f} / {parts[98]:.0f} / {lengths[-1]}"
    private = [function for function in found if function.is_private]
    once = [function for function in private if function.occurs == 2]
    yield "private functions; used exactly once", f"{share(private, found)}; {share(once, found)}"
    short, long = [one for one in found if one.words == 1], [one for one in found if one.words > 2]
    yield "names of one word; of three and more", f"{share(short, found)}; {share(long, found)}"
    yield "names of one word, of those that we chose", share([one for one in ours if one.words == 1], ours)
    words = read_words(WORDS.read_text(encoding="utf-8"))
    refused = sum(len(list(faults(str(path), path.read_text(encoding="utf-8"), words))) for path in paths)
    yield "words that words.txt refuses", str(refused)
    yield (
        "longest file, lines",
        str(max(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)),
    )
    for package in PACKAGES:
        arrows = {
            name: {other for other in others if other != name} for name, others in imports(package).items()
        }
        rooms = by_room(package, arrows)
        yield f"{package}: modules; floors, arrows", f"{len(arrows)}; {floors(arrows)}, {count(arrows)}"
        yield f"{package}: what it holds; floors, arrows", f"{len(rooms)}; {floors(rooms)}, {count(rooms)}"
    if lengths_of := subjects():
        middle, ninety = lengths_of[len(lengths_of) // 2], lengths_of[9 * len(lengths_of) // 10]
        yield "newest 100 commit subjects, characters p50 / p90", f"{middle} / {ninety}"


if __name__ == "__main__":
    for what, value in table():
        sys.stdout.write(f"{what:<58}{value}\n")
