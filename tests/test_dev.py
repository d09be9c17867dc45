"""dev.py: setting up a separate checkout with a small lock, its arguments, and what it refuses."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
SET_UP = [sys.executable, "-c", "import dev; dev.set_up(); dev.say('done')"]
SET_UP_DEV = [sys.executable, "-c", "import dev; dev.set_up(dev=True); dev.say('done')"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a separate folder with dev.py and an empty lock, so that setting up takes seconds."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copy(CHECKOUT / "dev.py", folder)
    for name in ("requirements.lock", "dev-requirements.lock", "demo-requirements.lock"):
        (folder / name).write_text("# nothing\n")
    return folder


def environment(**extra: str) -> dict[str, str]:
    hidden = ("GATEHOUSE_STATE", "GATEHOUSE_TORCH", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if name not in hidden} | extra


def run(command: list[str], folder: Path, **extra: str) -> tuple[int, str, str]:
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment(**extra),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return result.returncode, result.stdout, result.stderr


@pytest.fixture(scope="module")
def dev(checkout: Path) -> Callable[..., tuple[int, str, str]]:
    return lambda *arguments, **extra: run([sys.executable, "dev.py", *arguments], checkout, **extra)


def test_two_first_uses_at_once_set_up_once(checkout: Path) -> None:
    both = [
        subprocess.Popen(
            SET_UP, cwd=checkout, env=environment(GATEHOUSE_TORCH="none"), stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = sorted(process.communicate(timeout=300)[1].splitlines() for process in both)
    assert [process.returncode for process in both] == [0, 0]
    leaving_out = "Leaving torch out, because GATEHOUSE_TORCH=none: recoveries cannot run here"
    assert said == [
        ["Making .venv", "Installing from requirements.lock", leaving_out, "done"],
        ["Waiting for another dev.py that is setting this checkout up", "done"],
    ]


def test_set_up_that_holds_is_not_done_again(checkout: Path) -> None:
    assert run(SET_UP, checkout, GATEHOUSE_TORCH="none") == (0, "", "done\n")


def test_chosen_torch_stays_chosen_where_the_variable_is_not_set(checkout: Path) -> None:
    assert run(SET_UP, checkout) == (0, "", "done\n")


def test_changed_lock_is_installed_and_nothing_else(checkout: Path) -> None:
    (checkout / "requirements.lock").write_text("# still nothing\n")
    said = "Installing from requirements.lock\ndone\n"
    assert run(SET_UP, checkout, GATEHOUSE_TORCH="none") == (0, "", said)


def test_packages_of_the_tests_are_added_once_and_stay(checkout: Path) -> None:
    said = "Installing from dev-requirements.lock\ndone\n"
    assert run(SET_UP_DEV, checkout, GATEHOUSE_TORCH="none") == (0, "", said)
    assert run(SET_UP, checkout, GATEHOUSE_TORCH="none") == (0, "", "done\n")
    assert run(SET_UP_DEV, checkout, GATEHOUSE_TORCH="none") == (0, "", "done\n")


@pytest.mark.parametrize(
    ("command", "dev", "demo"),
    [("up", False, False), ("demo", False, True), ("manage", False, False), ("shell", False, False),
     ("test", True, False), ("bench", True, False), ("lint", True, False)],
)  # fmt: skip
def test_tests_lint_and_benchmarks_alone_need_the_packages_of_the_tests(
    checkout: Path, command: str, dev: bool, demo: bool
) -> None:
    code = (
        "import dev, sys\n"
        "def tell(dev=False, demo=False):\n    sys.exit(f'{dev} {demo}')\n"
        "dev.set_up = tell; dev.main(sys.argv[1:])"
    )
    assert run([sys.executable, "-c", code, command], checkout) == (1, "", f"{dev} {demo}\n")


def test_locks_agree_on_what_both_name() -> None:
    """Both locks pin the same versions, so installing the tests' packages only adds to the portal's."""
    locks = [pins(CHECKOUT / name) for name in ("requirements.lock", "dev-requirements.lock")]
    shared = locks[0].keys() & locks[1].keys()
    assert shared
    assert [locks[0][name] for name in sorted(shared)] == [locks[1][name] for name in sorted(shared)]
    assert "torch" not in locks[0].keys() | locks[1].keys()
    assert not {"pytest", "moto", "mypy", "playwright"} & locks[0].keys()


def pins(lock: Path) -> dict[str, list[str]]:
    """Return a lock's pinned lines by package; a package may be pinned differently for each Python."""
    found: dict[str, list[str]] = {}
    for line in lock.read_text().splitlines():
        if "==" in line and not line.startswith((" ", "#")):
            found.setdefault(line.partition("==")[0], []).append(line)
    return found


def test_lock_that_cannot_be_installed_is_refused_and_the_environment_stays_whole(checkout: Path) -> None:
    kept = (checkout / "requirements.lock").read_text()
    missing = "half @ file:///nonexistent/half-1.0-py3-none-any.whl"
    (checkout / "requirements.lock").write_text(f"{missing} --hash=sha256:{'0' * 64}\n")
    status, output, errors = run(SET_UP, checkout, GATEHOUSE_TORCH="none")
    assert (status, output) == (1, "")
    assert "pip failed" in errors
    (checkout / "requirements.lock").write_text(kept)
    assert run(SET_UP, checkout, GATEHOUSE_TORCH="none") == (0, "", "done\n")


def test_torch_without_a_build_is_left_out_with_a_sentence(checkout: Path) -> None:
    none = str(checkout / "no-wheels")
    Path(none).mkdir()
    torch = f"torch==2.13.0 --no-index --isolated --find-links {none}"
    plain = {
        "PIP_CONFIG_FILE": os.devnull
    }  # constraints on this machine would change what pip says about a missing build
    status, _, errors = run(SET_UP, checkout, GATEHOUSE_TORCH=torch, **plain)
    assert status == 0
    assert f"There is no build of {torch} for Python" in errors
    assert run(SET_UP, checkout, GATEHOUSE_TORCH=torch) == (0, "", "done\n")


def test_interrupted_set_up_is_repaired(checkout: Path) -> None:
    (checkout / ".venv" / "gatehouse-unfinished").touch()
    (checkout / ".venv" / "half-installed").touch()
    status, _, errors = run(SET_UP, checkout, GATEHOUSE_TORCH="none")
    assert status == 0
    assert errors.startswith("Replacing .venv, because its last setup was interrupted\n")
    assert not (checkout / ".venv" / "half-installed").exists()
    stamp = json.loads((checkout / ".venv" / "gatehouse-stamp.json").read_text())
    assert stamp["torch"] == "none"


@pytest.mark.parametrize(
    "arguments", [("--state", "here", "manage"), ("manage", "--state", "here"), ("manage", "--state=here")]
)
def test_state_is_taken_before_and_after_the_command(dev, checkout, arguments) -> None:
    """The state folder can be given before or after the command.

    Python's error about the missing portal shows that dev.py started it.
    """
    status, output, errors = dev(*arguments, GATEHOUSE_TORCH="none")
    assert (status, output) == (1, "")
    assert "No module named 'portal'" in errors


def test_state_is_split_from_the_arguments_of_the_command(checkout: Path) -> None:
    code = "import dev, json, sys; print(json.dumps(dev.split_state(sys.argv[1:])))"
    status, output, _ = run(
        [sys.executable, "-c", code, "manage", "x", "--state", "a b", "--", "--state", "c"], checkout
    )
    assert (status, json.loads(output)) == (0, ["a b", ["manage", "x", "--", "--state", "c"]])


def test_benchmark_that_fills_a_folder_is_given_the_state_that_was_named(checkout: Path) -> None:
    code = "import dev, sys; dev.COMMANDS['bench'] = print; dev.main(sys.argv[1:])"
    named = ("--state", "/srv/full")
    for arguments, given in (
        (("bench", "scale", *named, "--requests", "9"), ["scale", "--requests", "9", *named]),
        (("bench", "scale"), ["scale"]),
        (("bench", "delivery", *named), ["delivery"]),
    ):
        assert run([sys.executable, "-c", code, *arguments], checkout) == (0, f"{given}\n", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("frobnicate",),
            "dev.py has no command 'frobnicate': it knows up, demo, test, manage, shell, lint, bench.\n",
        ),
        (("up", "--state"), "--state needs a folder, as in --state /srv/gatehouse.\n"),
        (("lint", "everything"), "lint takes no arguments but --measure.\n"),
    ],
)
def test_wrong_arguments_are_one_sentence(dev, arguments, sentence) -> None:
    assert dev(*arguments) == (1, "", sentence)


def test_help_names_every_command(dev) -> None:
    status, output, errors = dev()
    assert (status, errors) == (0, "")
    assert all(
        f"./dev.py {name}" in output for name in ("up", "demo", "test", "manage", "shell", "lint", "bench")
    )


def test_older_python_is_refused_in_one_sentence(checkout: Path) -> None:
    """An older Python can parse the file as far as the line that refuses it."""
    source = (CHECKOUT / "dev.py").read_text()
    ast.parse(source, feature_version=(3, 7))
    pretend = "import sys; sys.version_info = (3, 10, 9); exec(open('dev.py').read())"
    sentence = (
        "Gatehouse needs Python 3.11 or newer, and this is 3.10:"
        " run dev.py with a newer one, as in python3.12 dev.py.\n"
    )
    assert run([sys.executable, "-c", pretend], checkout) == (1, "", sentence)
