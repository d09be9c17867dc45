from django.apps import AppConfig


class ModelOpsConfig(AppConfig):
    name = "model_ops"
    verbose_name = "weights"

    def ready(self) -> None:
        from model_ops import signals  # noqa: F401 - connects the receivers
