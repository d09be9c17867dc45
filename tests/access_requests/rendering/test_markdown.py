"""Markdown of cards: what is kept, and that active content is removed."""

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from access_requests.rendering.markdown import plain_text, render_inline, render_markdown


def test_headings_leave_the_page_its_h1():
    assert render_markdown("# A\n\n###### B") == "<h2>A</h2>\n<h6>B</h6>\n"
    assert render_markdown("<h1 id=x>A</h1>") == "<h2>A</h2>"
    assert render_markdown("# A", shift=2) == "<h3>A</h3>\n"


def test_table_keeps_its_alignment_without_a_style():
    html = render_markdown("| a | b |\n|---|--:|\n| 1 | 2 |")

    assert '<td align="right">2</td>' in html
    assert "style" not in html


def test_bare_address_becomes_a_link():
    assert render_inline("See https://example.org/a?b=1&c=2.") == (
        'See <a href="https://example.org/a?b=1&amp;c=2" rel="nofollow noopener">https://example.org/a?b=1&amp;c=2</a>.'
    )


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("(see https://a.example/x)", "https://a.example/x"),
        ("https://en.wikipedia.org/wiki/Base_(chemistry)", "https://en.wikipedia.org/wiki/Base_(chemistry)"),
        ("(https://a.example/b_(c)).", "https://a.example/b_(c)"),
        ("[https://a.example/?q=[1]]!", "https://a.example/?q=[1]"),
        ("HTTP://A.example/B", "HTTP://A.example/B"),
        ("HttpS://a.example.", "HttpS://a.example"),
        ("https://a.example/:)", "https://a.example/"),
        ("http://a", "http://a"),
    ],
)
def test_bare_address_ends_before_the_punctuation_around_it(text: str, address: str):
    assert f">{address}</a>" in render_inline(text)


def test_address_inside_a_link_or_code_is_left_alone():
    html = render_markdown(
        "[https://a.example](https://b.example) <a href='https://c.example'>https://d.example</a> `https://e.example`"
    )
    assert html.count("<a ") == 2


@pytest.mark.parametrize(
    "text",
    [
        "`https://a.example`",
        "```\nhttps://a.example\n```",
        "javascript:alert(1)",
        "javascript://a.example/%0aalert(1)",
        "data:text/html,a",
        "mailto:a@b.example",
        "a@b.example",
        "ftp://a.example",
        "//a.example",
        "www.example.org",
        "example.org",
        "a.py",
        "http:a.example",
        "http://",
        "https://...",
        "(https://)",
        "https:///",
    ],
)
def test_code_other_schemes_and_bare_words_are_not_linked(text: str):
    assert "<a" not in render_markdown(text)
    assert "<a" not in render_inline(text)


def test_bare_address_in_an_indented_block_is_not_linked():
    assert render_markdown("    https://a.example") == "<pre><code>https://a.example\n</code></pre>\n"


def test_bare_address_is_cleaned_as_every_other_link():
    html = render_markdown(
        '**https://a.example/"onclick=x** <https://b.example> https://c.example/<script>x</script>'
    )
    assert tags_of(html) == {("p", ""), ("strong", ""), ("a", ""), ("a", "href"), ("a", "rel")}
    assert html.count('rel="nofollow noopener"') == 3


def test_links_and_pictures_are_resolved_against_the_base():
    html = render_markdown("[L](LICENSE.md) [T](#top) ![p](a.png)", base="/ns/name/resolve/main/")

    assert 'href="/ns/name/resolve/main/LICENSE.md"' in html
    assert 'href="#top"' in html
    assert 'src="/ns/name/resolve/main/a.png"' in html


def test_anchor_in_a_description_is_kept():
    assert render_inline("our <a href='https://example.org/' target=_blank onclick=x>policy</a>") == (
        'our <a href="https://example.org/" rel="nofollow noopener">policy</a>'
    )


def test_label_is_shown_with_bold_and_link_only():
    assert render_inline("I **agree** to the [licence](https://example.org/a)") == (
        'I <strong>agree</strong> to the <a href="https://example.org/a" rel="nofollow noopener">licence</a>'
    )
    assert render_inline("# A <h1>b</h1> ![x](https://example.org/x.png)") == "# A b "
    assert plain_text("I **agree** to `this` [licence](https://example.org)") == "I agree to this licence"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "[a](JaVaScRiPt:alert(1))",
        "<a href='java\nscript:alert(1)'>a</a>",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
        "<iframe src='https://example.org'></iframe>",
        "<style>*{display:none}</style>",
        "<p style='position:fixed'>a</p>",
        "<svg onload=alert(1)>",
        "<form action=/x><input name=csrf><button>a</button></form>",
        "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
        "<details ontoggle=alert(1) open>",
        "<a id=content name=content>a</a>",
        "<base href='https://example.org/'>",
        "<meta http-equiv=refresh content=0>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
        "<img src='http://example.org/a.png'>",
        "<img src='//example.org/a.png'>",
    ],
)
def test_nothing_active_is_left(text: str):
    for html in (render_markdown(text), render_inline(text)):
        assert '<img src="http://' not in html
        assert '<img src="//' not in html
        assert tags_of(html) <= {
            ("a", ""),
            ("a", "rel"),
            ("details", ""),
            ("img", ""),
            ("img", "src"),
            ("p", ""),
        }


def tags_of(html: str) -> set[tuple[str, str]]:
    """Return every (tag, attribute) in the HTML as a browser reads it, and (tag, "") for the tag itself."""
    found: set[tuple[str, str]] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.update({(tag, ""), *((tag, name) for name, _ in attrs)})

    Reader().feed(html)
    return found


@pytest.mark.parametrize(
    "text", ["\0", "\ud800", "http://[", "[a](http://[)", "![a](http://[)", "<", "&#0;", "\x1b"]
)
def test_odd_text_is_rendered(text: str):
    render_markdown(text, base="/a/b/").encode()
    render_inline(text).encode()
    plain_text(text)


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="ab<>/[]()!`*_#|-:\n \"'&=h.t"))
def test_any_text_is_rendered(text: str):
    assert "<script" not in render_markdown(text)
    render_inline(text)
    plain_text(text)


def test_long_monotonous_text_is_rendered():
    for piece in (
        "*",
        "[",
        "<b>",
        "<a href=x>",
        "> ",
        "- ",
        "`",
        "![](",
        "https://",
        "http://[",
        "://",
        "http://a.",
        "|-",
        "<!--",
        "&",
    ):
        render_markdown(piece * (20_000 // len(piece)))


def test_text_too_long_for_markdown_is_shown_as_it_stands():
    assert render_markdown("<b>" + "[" * 300_000) == f"<pre>&lt;b&gt;{'[' * 300_000}</pre>"
