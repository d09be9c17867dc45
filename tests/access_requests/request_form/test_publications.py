"""Publications, one per line: which are accepted, how they are stored, and which line an error names."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from access_requests.request_form.publications import parse_publications


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("10.18653/v1/2023.acl-long.1", "10.18653/v1/2023.acl-long.1"),
        ("doi: 10.1000/xyz123", "10.1000/xyz123"),
        ("https://doi.org/10.1000/xyz(1)2.3", "10.1000/xyz(1)2.3"),
        ("http://dx.doi.org/10.1000/a,b", "10.1000/a,b"),
        ("2306.04751", "arXiv:2306.04751"),
        ("arXiv:2306.04751v2", "arXiv:2306.04751v2"),
        ("https://arxiv.org/abs/2306.04751", "arXiv:2306.04751"),
        ("https://arxiv.org/pdf/2306.04751.pdf", "arXiv:2306.04751"),
        ("hep-th/9901001", "arXiv:hep-th/9901001"),
        ("arXiv:math.GT/0309136", "arXiv:math.GT/0309136"),
        ("https://example.org/paper?id=1", "https://example.org/paper?id=1"),
        ("- https://example.org:8443/a", "https://example.org:8443/a"),
        ("[1] 10.1000/xyz123", "10.1000/xyz123"),
        ("2. <https://例え.jp/論文>", "https://例え.jp/論文"),
    ],
)
def test_publication_is_kept_in_one_spelling(written: str, kept: str):
    assert parse_publications(written) == ([kept], [])


def test_several_are_kept_once_each_in_order():
    text = "2306.04751\r\n\r\n https://example.org/b, 10.1000/xyz123;\narXiv:2306.04751\n"

    assert parse_publications(text) == (["arXiv:2306.04751", "https://example.org/b", "10.1000/xyz123"], [])


@pytest.mark.parametrize("text", ["", "  \n", "none", "None.", "n/a", "-", "no", "无"])
def test_none_is_an_empty_list(text: str):
    assert parse_publications(text) == ([], [])


@pytest.mark.parametrize(
    "line",
    [
        "Smith et al., Nature 2020",
        "ftp://example.org/a",
        "javascript:alert(1)",
        "https://localhost/a",
        "https://",
        "http://[::1",
        "https://user@/x",
        "https://example.org:99999/",
        "10.1000",
        "2313.04751",
        "example.org/paper",
        "2306.04751 and more",
    ],
)
def test_bad_line_is_named_in_one_sentence(line: str):
    found, problems = parse_publications(f"2306.04751\n{line}")

    assert found == ["arXiv:2306.04751"]
    assert problems == [
        f"Line 2, “{line}”, is no DOI, arXiv id or link: "
        "write it like 10.1000/xyz123, arXiv:2306.04751 or https://example.org/paper."
    ]


def test_many_bad_lines_are_summed_up():
    assert len(parse_publications("bad\n" * 500)[1]) == 11


def test_more_than_a_hundred_are_refused():
    found, problems = parse_publications("\n".join(f"10.1000/{n}" for n in range(101)))

    assert (len(found), len(problems)) == (101, 1)


@settings(deadline=None)
@given(st.text())
def test_any_text_gives_publications_or_sentences(text: str):
    found, problems = parse_publications(text)

    assert all(problem.endswith(".") for problem in problems)
    assert parse_publications("\n".join(found)) == (found, [])
