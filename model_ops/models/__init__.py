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
