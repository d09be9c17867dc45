"""Where each person is in the Hub's lists, so that a page of a list is read by index."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from access_requests.enums import Place
from access_requests.models.catalogue import GatedModel


class ListPlace(models.Model):
    """The list of a model that a person is in, and the date by which the list is ordered.

    It only helps to find people, and is written with every event of a request or grant
    (`services.list_places`). What a page of a list shows is decided from the requests and grants themselves.
    """

    model = models.ForeignKey(GatedModel, models.CASCADE, related_name="+", db_index=False)
    person = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False)
    place = models.CharField(
        max_length=10, choices=Place, blank=True, help_text=_("Empty while nothing counts.")
    )
    asked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["person", "model"], name="one_place_per_person_and_model")
        ]
        indexes = [models.Index(fields=["model", "place", "asked_at", "person"], name="list_place_order")]

    def __str__(self) -> str:
        return f"{self.person} is {self.place or 'in no list'} of {self.model}"
