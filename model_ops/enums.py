"""The words of the weights side, as data."""

from django.db.models import TextChoices


class SourceKind(TextChoices):
    FOLDER = "folder", "folder on the server"
    HUB = "hub", "repository at a commit"
    UPLOAD = "upload", "uploaded revision"


class RecoveryState(TextChoices):
    PLANNED = "planned", "planned"
    RUNNING = "running", "running"
    READY = "ready", "ready"
    REFUSED = "refused", "refused"
    FAILED = "failed", "failed"
    CANCELLED = "cancelled", "cancelled"


class WaitsFor(TextChoices):
    """What a recovery cannot go on without for now; all of it may come by itself or by someone's hand."""

    ROOM = "room", "room on the disk"
    STORE = "store", "the weights folder"
    SOURCE = "source", "a source folder"
    REMOTE = "remote", "the remote Hub"
    MEMORY = "memory", "memory"
    DEVICE = "device", "the GPU"
    AGAIN = "again", "the next try"


class ShardState(TextChoices):
    PLANNED = "planned", "planned"
    RUNNING = "running", "running"
    DONE = "done", "done"


class Method(TextChoices):
    RECOVER = "recover", "base + diff"
    COPY = "copy", "files as they are"


class DiffMethod(TextChoices):
    ADD = "add", "a difference of values"
    XOR = "xor", "an exclusive or of files (OpenAssistant)"


class Dtype(TextChoices):
    FLOAT32 = "float32", "float32"
    FLOAT16 = "float16", "float16"
    BFLOAT16 = "bfloat16", "bfloat16"


class Compat(TextChoices):
    WEIGHT_DIFF = "weight_diff", "weight_diff (Alpaca, Tulu)"
    FASTCHAT = "fastchat", "FastChat (Vicuna)"


class ResizePolicy(TextChoices):
    MEAN = "mean", "mean of the base's rows"
    ZERO = "zero", "zero"
    SKIP = "skip", "the diff's row as it is"
    CUT = "cut", "the base's first rows, where it has more"
    ERROR = "error", "refuse"


class DiffOnly(TextChoices):
    REFUSE = "refuse", "refuse"
    COPY = "copy", "taken from the diff as they are"


class DeliveryState(TextChoices):
    WAITING = "waiting", "waiting for weights"
    READY = "ready", "told: ready"
    FAILED = "failed", "told: failed"
    OVER = "over", "access ended"


class SmokeState(TextChoices):
    WAITING = "waiting", "waiting for a worker"
    RUNNING = "running", "running"
    ANSWERED = "answered", "answered"
    FAILED = "failed", "failed"
    REFUSED = "refused", "not run"


class DownloadMode(TextChoices):
    OWN = "own", "sent by Gatehouse"
    NGINX = "nginx", "handed to nginx"
    S3 = "s3", "link to the bucket"


class DownloadState(TextChoices):
    RUNNING = "running", "being sent"
    COMPLETE = "complete", "complete"
    PARTIAL = "partial", "ended early"
    CUT = "cut", "cut off"
    WAITING = "waiting", "waiting for nginx's log"
    UNKNOWN = "unknown", "not in nginx's log"
    HANDED_OVER = "handed_over", "handed over"
