"""The tables of the people side. Import the models from this package.

audit      the event log: events, their texts, the links of the chain
catalogue  gated models, rendered cards, former ids, namespaces, form and licence versions, families, roles
grants     grants and access tokens
lists      each person's place in the Hub's lists, for reading a page by index
messages   notes and messages about a request, and message templates
oauth      machines, device codes, refresh tokens, trusted repositories, exchanges, issuers' keys
outbox     outgoing emails, and the mail server's pause
remote     followed repositories: people and requests there, decisions still to be reported, troubles
requests   requests, accepted licences and decisions
submissions  each version of a request, and the approvals of a version
"""

from access_requests.models.audit import Event, EventLink, EventText
from access_requests.models.catalogue import (
    FormerId,
    FormVersion,
    GatedModel,
    LicenceVersion,
    ModelFamily,
    ModelRole,
    Namespace,
    RenderedCard,
)
from access_requests.models.grants import AccessToken, Grant
from access_requests.models.lists import ListPlace
from access_requests.models.messages import Message, MessageTemplate
from access_requests.models.oauth import (
    DeviceCode,
    IssuerKeys,
    Machine,
    RefreshToken,
    TokenExchange,
    TrustedRepository,
)
from access_requests.models.outbox import MailServer, OutgoingMail
from access_requests.models.remote import (
    FarSide,
    FollowedRepo,
    FollowTrouble,
    RemotePerson,
    RemotePush,
    RemoteRequest,
)
from access_requests.models.requests import AccessRequest, Decision, LicenceAcceptance
from access_requests.models.submissions import Submission, Vote

__all__ = [
    "AccessRequest",
    "AccessToken",
    "Decision",
    "DeviceCode",
    "Event",
    "EventLink",
    "EventText",
    "FarSide",
    "FollowTrouble",
    "FollowedRepo",
    "FormVersion",
    "FormerId",
    "GatedModel",
    "Grant",
    "IssuerKeys",
    "LicenceAcceptance",
    "LicenceVersion",
    "ListPlace",
    "Machine",
    "MailServer",
    "Message",
    "MessageTemplate",
    "ModelFamily",
    "ModelRole",
    "Namespace",
    "OutgoingMail",
    "RefreshToken",
    "RemotePerson",
    "RemotePush",
    "RemoteRequest",
    "RenderedCard",
    "Submission",
    "TokenExchange",
    "TrustedRepository",
    "Vote",
]
