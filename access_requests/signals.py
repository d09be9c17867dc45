"""Where the rooms meet: sent after commit, with ids only."""

from django.dispatch import Signal

access_granted = Signal()  # grant_id: int
