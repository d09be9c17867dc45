"""HTML pages that begin with comments: nested repetition in a pattern would take exponential time to fail."""

import pytest


@pytest.mark.parametrize("comments", [24, 585])
def test_page_of_many_comments_is_read_once(world, comments):
    """The text after the comments is not a tag, so a bad pattern would try every way of dividing them up."""
    (world.diff / "tokenizer.json").write_text("<!---->" * comments + "x")
    assert world.plan().status == 0
