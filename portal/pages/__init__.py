"""Pages that need both sides: who may, and how far the weights are."""
