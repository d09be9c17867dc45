from django.apps import AppConfig
from django.db.models.signals import post_save
from django.utils.translation import gettext_lazy as _


class AccessRequestsConfig(AppConfig):
    name = "access_requests"
    verbose_name = _("access requests")

    def ready(self) -> None:
        from access_requests.models import Event
        from access_requests.services.following.listening import on_event

        post_save.connect(on_event, sender=Event, dispatch_uid="following-listens")
