"""The reviewers' and owners' pages. Staff see what belongs to models they decide for; a superuser sees everything.

base         what all these pages share: whose rows are shown, and that only services change them
catalogue    gated models with their card, form fields, licences and roles
far_side     the panel on a request's page about the person at a followed repository
filters      filters whose choices are read by index
following    followed repositories, and the differences between both sides
forms        the forms that owners type into
grants       grants, and the page that revokes one
lists        pages, counts and searches whose cost does not grow with the table
log          the event log and outgoing emails
requests     the queue of requests (columns, filters, order) and the page on which one is decided
review_page  what a reviewer sees of one request, gathered for the template
sign_ins     signed-in machines and trusted repositories
tokens       access tokens, and the page that revokes one
"""

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
