from django.apps import AppConfig
from django.contrib.admin import apps


class PortalConfig(AppConfig):
    name = "portal"

    def ready(self) -> None:
        from portal.database import checks  # noqa: F401 - registers itself


class AdminConfig(apps.AdminConfig):
    """Django's admin on our own site."""

    default = False
    default_site = "portal.admin_site.AdminSite"
