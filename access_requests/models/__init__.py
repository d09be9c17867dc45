from access_requests.models.audit import Event
from access_requests.models.catalogue import FormVersion, GatedModel, LicenceVersion, ModelRole
from access_requests.models.grants import AccessToken, Grant
from access_requests.models.outbox import OutgoingMail
from access_requests.models.requests import AccessRequest, Decision, LicenceAcceptance

__all__ = [
    "AccessRequest",
    "AccessToken",
    "Decision",
    "Event",
    "FormVersion",
    "GatedModel",
    "Grant",
    "LicenceAcceptance",
    "LicenceVersion",
    "ModelRole",
    "OutgoingMail",
]
