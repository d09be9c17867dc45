from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ModelOpsConfig(AppConfig):
    name = "model_ops"
    verbose_name = _("weights")

    def ready(self) -> None:
        from access_requests import panels as registered
        from model_ops import panels, signals  # noqa: F401 - signals connects the receivers

        registered.REQUEST_PANELS.append(panels.case_panel)
        registered.MODEL_PANELS.append(panels.model_panel)
        registered.ACCESS_PANELS.append(panels.access_panel)
