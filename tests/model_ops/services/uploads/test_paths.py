from __future__ import annotations

import pytest

from access_requests.errors import Invalid
from model_ops.services.uploads.paths import Ignored, check_path, check_together


@pytest.mark.parametrize(
    "path", ["config.json", "a/b/c.bin", "what? 100%: a,b é.json", ".gitignore", "a..b", "…"]
)
def test_plain_path_is_taken(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../up", "a/../b", "a/./b", "a//b", "a/", "./a", ".", "..", "a\0b", "a\nb", "a\\..\\b", ".git/config", "a/.GIT/x", "\u202egnp.exe", "a" * 501, "é" * 200, "\ud800", 7, None, ["a"]],
)  # fmt: skip
def test_path_that_could_lead_elsewhere_is_refused(path: object) -> None:
    with pytest.raises(Invalid, match=r"cannot be a file's name here: a path is written as folder/name"):
        check_path(path)


@pytest.mark.parametrize(
    "paths", [["README.md", "readme.md"], ["A/x", "a/y"], ["a", "a/b"], ["a/b", "a"], ["\u00e9", "e\u0301"], ["Straße", "STRASSE"]]
)  # fmt: skip
def test_names_that_some_systems_take_for_one_are_refused(paths: list[str]) -> None:
    with pytest.raises(Invalid, match="cannot be in one repository"):
        check_together(paths)


def test_names_that_differ_are_taken_together() -> None:
    check_together(["a/b", "a/c", "ab", "b/a", "b/b/a"])


GITIGNORE = """
# a comment
*.log
!keep.log
/root.txt
build/
docs/**/draft.md
data/*.csv
[ab].tmp
\\#odd
"""


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("x.log", True),
        ("deep/x.log", True),
        ("keep.log", False),
        ("root.txt", True),
        ("deep/root.txt", False),
        ("build/x", True),
        ("deep/build/x/y", True),
        ("build", False),
        ("docs/draft.md", True),
        ("docs/a/b/draft.md", True),
        ("data/a.csv", True),
        ("data/deep/a.csv", False),
        ("a.tmp", True),
        ("c.tmp", False),
        ("#odd", True),
        ("config.json", False),
        ("x.log.txt", False),
    ],
)
def test_gitignore_leaves_out_what_git_would(path: str, left_out: bool) -> None:
    assert (path in Ignored(GITIGNORE)) is left_out


def test_gitignore_that_makes_no_sense_leaves_nothing_out() -> None:
    assert "a/b" not in Ignored("[z-a]\n[\n\\\n" + "*a" * 50 + "\n" + "!" * 500)


HARD = [
    ("*a" * 8 + "*b", "a" * 255, False),
    ("*a" * 8 + "*b", "a" * 254 + "b", True),
    ("*a" * 240 + "*b", "a" * 255, False),
    ("x*" * 8 + "/y", "x" * 255 + "/y", True),
    ("**/a/" * 60 + "b", "a/" * 200 + "c", False),
    ("**/a/" * 60 + "b", "a/" * 200 + "b", True),
    ("x" + " " * 250_000 + "y", "x", False),
]


@pytest.mark.parametrize(("rule", "path", "left_out"), HARD)
def test_gitignore_that_is_made_to_take_long_is_answered(rule: str, path: str, left_out: bool) -> None:
    assert (path in Ignored(rule)) is left_out


@pytest.mark.parametrize(
    ("rule", "path", "left_out"),
    [
        ("a**b", "axxb", True),
        ("a**b", "ax/xb", False),
        ("**/x", "x", True),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("**", "a", True),
        ("a?c*", "abcd", True),
        ("[!a-c]x", "bx", False),
        ("[!a-c]x", "dx", True),
        ("[a--b]", "a", False),
        ("[[a]x", "[x", True),
        ("\\*", "a", False),
        ("\\*", "*", True),
        ("a\\ ", "a ", True),
        ("a  ", "a", True),
        ("x/", "deep/x/y", True),
        ("/x/*/z", "x/y/z", True),
        ("/x/*/z", "x/y/y/z", False),
    ],
)
def test_one_rule_means_what_git_says(rule: str, path: str, left_out: bool) -> None:
    assert (path in Ignored(rule)) is left_out


def test_rules_and_names_that_are_too_much_together_are_refused() -> None:
    ignored = Ignored("\n".join(f"*a{number}" for number in range(1000)))
    with pytest.raises(Invalid, match="too many for these names"):
        [f"{number}/{'a/' * 200}" in ignored for number in range(1000)]
