"""Admin pages for weights, revisions and downloads.

downloads      the download log
models         gated models with their weights: added in one step, changed together with what is published
recoveries     recoveries: view, cancel, retry
revisions      revisions, and whether a model publishes or holds its uploads
source_rights  folders and repositories that a superuser assigned to a namespace
"""

from model_ops.admin.downloads import DownloadAdmin
from model_ops.admin.models import GatedModelWithWeightsAdmin
from model_ops.admin.recoveries import RecoveryAdmin
from model_ops.admin.revisions import RevisionAdmin, UploadRuleAdmin
from model_ops.admin.source_rights import AllowedRepositoryAdmin, AssignedFolderAdmin

__all__ = [
    "AllowedRepositoryAdmin",
    "AssignedFolderAdmin",
    "DownloadAdmin",
    "GatedModelWithWeightsAdmin",
    "RecoveryAdmin",
    "RevisionAdmin",
    "UploadRuleAdmin",
]
