"""Where the rooms meet: a grant is announced in its transaction and again after commit, each time by its id."""

from django.dispatch import Signal

access_recorded = Signal()  # grant_id: int; in the transaction: receivers write rows and nothing else
access_granted = Signal()  # grant_id: int; after commit
