"""The pages of owners, reviewers and auditors. They see the rows of models they have a role for; superusers see everything.

base         what all these pages share: which rows a visitor sees, and that only services change them
catalogue    gated models: the list, and the form for card and settings
far_side     the panel on a request's page about its person at a followed repository
filters      filters whose choices are read by index
following    followed repositories, and differences between the remote and the portal
forms        the forms that owners type into
grants       grants, and the page that revokes one
lists        pages, counts and searches that stay fast on large tables
log          the event log, and outgoing emails
model_pages  the pages of one model: licence texts, form fields, templates, people, family
requests     the queue of requests (columns, filters, order) and the page for deciding one
review_page  the template's context for one request as a reviewer sees it
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
