"""The demo model, and the walk through the whole job: `pair` makes base, tuned and diff."""
