"""The reviewers' and owners' desk. Staff see what belongs to models they decide for; a superuser sees everything."""

from access_requests.admin.catalogue import GatedModelAdmin
from access_requests.admin.far_side import far_side
from access_requests.admin.following import FollowedRepoAdmin, RemoteRequestAdmin
from access_requests.admin.grants import GrantAdmin
from access_requests.admin.log import EventAdmin, OutgoingMailAdmin
from access_requests.admin.requests import AccessRequestAdmin
from access_requests.admin.sign_ins import MachineAdmin, TrustedRepositoryAdmin
from access_requests.admin.tokens import AccessTokenAdmin
from access_requests.panels import REQUEST_PANELS

REQUEST_PANELS.insert(0, far_side)

__all__ = [
    "AccessRequestAdmin",
    "AccessTokenAdmin",
    "EventAdmin",
    "FollowedRepoAdmin",
    "GatedModelAdmin",
    "GrantAdmin",
    "MachineAdmin",
    "OutgoingMailAdmin",
    "RemoteRequestAdmin",
    "TrustedRepositoryAdmin",
]
