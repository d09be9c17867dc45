"""The reviewers' and owners' desk. Staff see what belongs to models they decide for; a superuser sees everything."""

from access_requests.admin.catalogue import GatedModelAdmin
from access_requests.admin.grants import GrantAdmin
from access_requests.admin.log import EventAdmin, OutgoingMailAdmin
from access_requests.admin.requests import AccessRequestAdmin
from access_requests.admin.tokens import AccessTokenAdmin

__all__ = ["AccessRequestAdmin", "AccessTokenAdmin", "EventAdmin", "GatedModelAdmin", "GrantAdmin", "OutgoingMailAdmin"]
