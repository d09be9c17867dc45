from model_ops.models.downloads import Download
from model_ops.models.recoveries import Delivery, ModelWeights, Recovery, WeightSource
from model_ops.models.revisions import Blob, Ref, RepoFile, Revision
from model_ops.models.shards import RecoveryShard
from model_ops.models.smoking import SmokeRun

__all__ = [
    "Blob",
    "Delivery",
    "Download",
    "ModelWeights",
    "Recovery",
    "RecoveryShard",
    "Ref",
    "RepoFile",
    "Revision",
    "SmokeRun",
    "WeightSource",
]
