"""The reviewers' and owners' desk. Staff see what belongs to models they decide for; a superuser sees everything."""

from access_requests.admin.catalogue import GatedModelAdmin
from access_requests.admin.grants import GrantAdmin
from access_requests.admin.log import EventAdmin, OutgoingMailAdmin
from access_requests.admin.requests import AccessRequestAdmin

__all__ = ["AccessRequestAdmin", "EventAdmin", "GatedModelAdmin", "GrantAdmin", "OutgoingMailAdmin"]
