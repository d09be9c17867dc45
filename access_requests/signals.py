"""Signals between the rooms: each grant is announced in its transaction and after commit, by its id."""

from django.dispatch import Signal

access_recorded = Signal()  # grant_id: int; sent in the transaction: receivers only write rows
access_granted = Signal()  # grant_id: int; sent after commit
