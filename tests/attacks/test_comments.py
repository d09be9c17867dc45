"""A page that begins with comments: nested repetition takes exponential time to fail, and readers of a page wait for it."""

import pytest


@pytest.mark.parametrize("comments", [24, 585])
def test_page_of_many_comments_is_read_once(world, comments):
    """What follows the comments is no tag of a page, so every way of dividing them up would be tried."""
    (world.diff / "tokenizer.json").write_text("<!---->" * comments + "x")
    assert world.plan().status == 0
