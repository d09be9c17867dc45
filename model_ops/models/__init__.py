"""The tables of the weights side; import the models from this package.

buckets     copies of contents in a bucket
downloads   the download log, counts per model and day, and the position in nginx's log
recoveries  weight sources, recoveries, a model's weights, deliveries
revisions   blobs, revisions, their files, refs
rights      folders and repositories that owners in a namespace may name
shards      shards of a recovery that several workers make together
smoking     test prompts and the answers
uploads     whether a model publishes its uploads at once
"""

from model_ops.models.buckets import BucketCopy
from model_ops.models.downloads import Download, DownloadDay, LogPosition, ModelDownloads, UnjoinedEnd
from model_ops.models.recoveries import Delivery, ModelWeights, Recovery, WeightSource
from model_ops.models.revisions import Blob, Ref, RepoFile, Revision
from model_ops.models.rights import AllowedRepository, AssignedFolder
from model_ops.models.shards import RecoveryShard
from model_ops.models.smoking import SmokeRun
from model_ops.models.uploads import UploadRule

__all__ = [
    "AllowedRepository",
    "AssignedFolder",
    "Blob",
    "BucketCopy",
    "Delivery",
    "Download",
    "DownloadDay",
    "LogPosition",
    "ModelDownloads",
    "ModelWeights",
    "Recovery",
    "RecoveryShard",
    "Ref",
    "RepoFile",
    "Revision",
    "SmokeRun",
    "UnjoinedEnd",
    "UploadRule",
    "WeightSource",
]
