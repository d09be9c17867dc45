"""The choices and codes of the gate.

Labels that a page, the admin or an email shows are marked for translation.
"""

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class Gate(TextChoices):
    NONE = "none", _("not gated: anyone may read")
    MANUAL = "manual", _("a reviewer decides")
    AUTO = "auto", _("granted on submission")


class Role(TextChoices):
    OWNER = "owner", _("owner")
    REVIEWER = "reviewer", _("reviewer")
    AUDITOR = "auditor", _("auditor")


DECIDING_ROLES = (Role.OWNER, Role.REVIEWER)  # the roles that may decide requests, and read gated files


class RequestState(TextChoices):
    DRAFT = "draft", _("draft")
    SUBMITTED = "submitted", _("submitted")
    IN_REVIEW = "in_review", _("in review")
    CHANGES_REQUESTED = "changes_requested", _("changes requested")
    APPROVED = "approved", _("approved")
    REJECTED = "rejected", _("rejected")
    APPEALED = "appealed", _("appealed")
    WITHDRAWN = "withdrawn", _("withdrawn")
    RESET = "reset", _("closed without decision")


OPEN_STATES = (
    RequestState.DRAFT,
    RequestState.SUBMITTED,
    RequestState.IN_REVIEW,
    RequestState.CHANGES_REQUESTED,
    RequestState.APPEALED,
)
WAITING_STATES = (RequestState.SUBMITTED, RequestState.IN_REVIEW, RequestState.APPEALED)
HOLDABLE_STATES = (*WAITING_STATES, RequestState.CHANGES_REQUESTED)
EDITABLE_STATES = (RequestState.DRAFT, *HOLDABLE_STATES)  # the applicant may submit new answers
CLOSED_STATES = (
    RequestState.APPROVED,
    RequestState.REJECTED,
    RequestState.WITHDRAWN,
    RequestState.RESET,
)


class MessageKind(TextChoices):
    """Who writes to whom about a request."""

    NOTE = "note", _("note for reviewers")
    SENT = "sent", _("message to the applicant")
    ANSWER = "answer", _("message from the applicant")


class Outcome(TextChoices):
    """What a reviewer can decide about a request; each decision is a row that is kept."""

    APPROVED = "approved", _("approved")
    REJECTED = "rejected", _("rejected")
    CHANGES_REQUESTED = "changes_requested", _("changes requested")
    RESET = "reset", _("closed without decision")
    REOPENED = "reopened", _("reopened")


class Place(TextChoices):
    """The Hub's four lists of a model; a person is in at most one of them."""

    PENDING = "pending", "waiting for a decision, or for the person to change something"
    ACCEPTED = "accepted", "a live grant"
    REJECTED = "rejected", "rejected"
    RESET = "reset", "access ended, or the request was closed without a decision: may ask again"


class ReasonCode(TextChoices):
    """The reasons for not approving a request; the applicant sees their labels."""

    NONE = "", _("no reason needed")
    USE_NOT_PERMITTED = "use_not_permitted", _("the intended use is not permitted by the licence")
    USE_UNCLEAR = "use_unclear", _("the intended use is not described well enough")
    IDENTITY_UNCLEAR = "identity_unclear", _("the identity or institution could not be confirmed")
    NO_BASE_LICENCE = "no_base_licence", _("no right to the base model could be confirmed")
    EXPORT_RULES = "export_rules", _("export rules do not allow it")
    DUPLICATE = "duplicate", _("another request covers this one")
    OTHER = "other", _("another reason")


class GrantSource(TextChoices):
    REVIEW = "review", _("approved by a reviewer")
    POLICY = "policy", _("approved by policy")
    OPERATOR = "operator", _("granted by an operator")


class TokenKind(TextChoices):
    """The kinds of token; no token allows more than its person may do."""

    GRANT = "grant", _("one grant: reads that model")
    USER = "user", _("its person: reads all their models")
    REVIEWER = (
        "reviewer",
        _("its person's roles as well: decides, and for owners changes settings and uploads"),
    )


class TokenOrigin(TextChoices):
    PAGE = "page", _("made on a page")
    OPERATOR = "operator", _("made by an operator")
    DEVICE = "device", "hf auth login"
    OIDC = "oidc", _("exchanged by a trusted repository")


class DeviceState(TextChoices):
    """The states of one `hf auth login`."""

    WAITING = "waiting", "waiting for a person"
    APPROVED = "approved", "approved, not fetched yet"
    DENIED = "denied", "denied"
    USED = "used", "fetched"
    ENDED = "ended", "ended before it was fetched"


class AccessCode(TextChoices):
    """The answers to "may this person read this model now?"; each code has its own sentence."""

    OPEN_MODEL = "open_model", "the model is not gated"
    GRANTED = "granted", "a live grant"
    STAFF = "staff", "owner or reviewer of the model"
    ANONYMOUS = "anonymous", "nobody is signed in"
    NO_REQUEST = "no_request", "never asked"
    DRAFT = "draft", "a draft, not submitted"
    PENDING = "pending", "waiting for a reviewer"
    CHANGES_REQUESTED = "changes_requested", "the reviewer asked for changes"
    REJECTED = "rejected", "rejected"
    WITHDRAWN = "withdrawn", "withdrawn"
    EXPIRED = "expired", "the grant ended"
    REVOKED = "revoked", "the grant was revoked"
    RESET = "reset", "the request was closed without a decision"
    LICENCE_OWED = "licence_owed", "a new licence text is to be accepted first"
    TOKEN_OUT_OF_SCOPE = "token_out_of_scope", "the token belongs to another model"
    DISABLED = "disabled", "the account is disabled"


class MailState(TextChoices):
    WAITING = "waiting", _("waiting")
    SENT = "sent", _("sent")
    FAILED = "failed", _("given up")
    EXPIRED = "expired", _("not sent in time")


class FarStatus(TextChoices):
    """The states of a request at a followed repository; `MISSING` if it is in none of the lists."""

    PENDING = "pending", _("pending")
    ACCEPTED = "accepted", _("accepted")
    REJECTED = "rejected", _("rejected")
    RESET = "reset", _("reset")
    MISSING = "missing", _("not there")


class FollowState(TextChoices):
    FOLLOWING = "following", _("following")
    PAUSED = "paused", _("paused")
    REFUSED = "refused", _("refused: waits for another token")
    ENDED = "ended", _("not followed any more")


class PushState(TextChoices):
    DUE = "due", _("to be told")
    CLAIMED = "claimed", _("being told")
    DONE = "done", _("told")
    FAILED = "failed", _("given up")
    REPLACED = "replaced", _("replaced by a later one")
