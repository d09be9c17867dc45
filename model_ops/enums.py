"""States and kinds of weights, recoveries, deliveries and downloads."""

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class SourceKind(TextChoices):
    FOLDER = "folder", _("folder on the server")
    HUB = "hub", _("repository at a commit")
    UPLOAD = "upload", _("uploaded revision")


class RecoveryState(TextChoices):
    PLANNED = "planned", _("planned")
    RUNNING = "running", _("running")
    READY = "ready", _("ready")
    REFUSED = "refused", _("refused")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


class WaitsFor(TextChoices):
    """What a recovery needs before it can continue; it may come by itself or need someone to act."""

    ROOM = "room", _("room on the disk")
    STORE = "store", _("the weights folder")
    SOURCE = "source", _("a source folder")
    REMOTE = "remote", _("the remote Hub")
    MEMORY = "memory", _("memory")
    DEVICE = "device", _("the GPU")
    AGAIN = "again", _("the next try")


class ShardState(TextChoices):
    PLANNED = "planned", _("planned")
    RUNNING = "running", _("running")
    DONE = "done", _("done")


class Method(TextChoices):
    RECOVER = "recover", _("base + diff")
    COPY = "copy", _("files as they are")


class DiffMethod(TextChoices):
    ADD = "add", _("a difference of values")
    XOR = "xor", _("an exclusive or of files (OpenAssistant)")


class Dtype(TextChoices):
    FLOAT32 = "float32", "float32"
    FLOAT16 = "float16", "float16"
    BFLOAT16 = "bfloat16", "bfloat16"


class Compat(TextChoices):
    WEIGHT_DIFF = "weight_diff", _("weight_diff (Alpaca, Tulu)")
    FASTCHAT = "fastchat", _("FastChat (Vicuna)")


class ResizePolicy(TextChoices):
    MEAN = "mean", _("mean of the base's rows")
    ZERO = "zero", _("zero")
    SKIP = "skip", _("the diff's row as it is")
    CUT = "cut", _("the base's first rows, where it has more")
    ERROR = "error", _("refuse")


class DiffOnly(TextChoices):
    REFUSE = "refuse", _("refuse")
    COPY = "copy", _("taken from the diff as they are")


class DeliveryState(TextChoices):
    WAITING = "waiting", _("waiting for weights")
    READY = "ready", _("told: ready")
    FAILED = "failed", _("told: failed")
    OVER = "over", _("access ended")


class SmokeState(TextChoices):
    WAITING = "waiting", _("waiting for a worker")
    RUNNING = "running", _("running")
    ANSWERED = "answered", _("answered")
    FAILED = "failed", _("failed")
    REFUSED = "refused", _("not run")


class DownloadMode(TextChoices):
    OWN = "own", _("sent by Gatehouse")
    NGINX = "nginx", _("handed to nginx")
    S3 = "s3", _("link to the bucket")


class DownloadState(TextChoices):
    RUNNING = "running", _("being sent")
    COMPLETE = "complete", _("complete")
    PARTIAL = "partial", _("ended early")
    CUT = "cut", _("cut off")
    WAITING = "waiting", _("waiting for nginx's log")
    UNKNOWN = "unknown", _("not in nginx's log")
    HANDED_OVER = "handed_over", _("handed over")
