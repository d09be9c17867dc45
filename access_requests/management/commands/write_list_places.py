"""`manage.py write_list_places`: store again where people are in the lists, after rows that no service wrote."""

from __future__ import annotations

from typing import Any

from access_requests.management.operator import Answer, OperatorCommand
from access_requests.services.list_places import write_places


class Command(OperatorCommand):
    help = "Recomputes which of a model's lists each person is in. Run it after requests or grants were written by hand or by an old version."

    def answer(self, **options: Any) -> Answer:
        people = write_places()
        return Answer({"people": people}, f"People whose places were written: {people}.")
