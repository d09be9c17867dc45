"""The words of the gate, as data."""

from django.db.models import TextChoices


class Gate(TextChoices):
    NONE = "none", "not gated: anyone may read"
    MANUAL = "manual", "a reviewer decides"
    AUTO = "auto", "granted on submission"


class Role(TextChoices):
    OWNER = "owner", "owner"
    REVIEWER = "reviewer", "reviewer"


class RequestState(TextChoices):
    DRAFT = "draft", "draft"
    SUBMITTED = "submitted", "submitted"
    IN_REVIEW = "in_review", "in review"
    CHANGES_REQUESTED = "changes_requested", "changes requested"
    APPROVED = "approved", "approved"
    REJECTED = "rejected", "rejected"
    APPEALED = "appealed", "appealed"
    WITHDRAWN = "withdrawn", "withdrawn"
    RESET = "reset", "reset"


OPEN_STATES = (
    RequestState.DRAFT,
    RequestState.SUBMITTED,
    RequestState.IN_REVIEW,
    RequestState.CHANGES_REQUESTED,
    RequestState.APPEALED,
)
WAITING_STATES = (RequestState.SUBMITTED, RequestState.IN_REVIEW, RequestState.APPEALED)
CLOSED_STATES = (
    RequestState.APPROVED,
    RequestState.REJECTED,
    RequestState.WITHDRAWN,
    RequestState.RESET,
)


class Outcome(TextChoices):
    """What a reviewer does with a request; each is a row that stays."""

    APPROVED = "approved", "approved"
    REJECTED = "rejected", "rejected"
    CHANGES_REQUESTED = "changes_requested", "changes requested"
    RESET = "reset", "reset"
    REOPENED = "reopened", "reopened"


class Place(TextChoices):
    """In which of the Hub's four lists of a model a person stands."""

    PENDING = "pending", "waiting for a decision, or for the person to change something"
    ACCEPTED = "accepted", "a live grant"
    REJECTED = "rejected", "rejected"
    RESET = "reset", "access ended, or the request was reset: may ask again"


class ReasonCode(TextChoices):
    """Why a request was not approved; the words beside it reach the applicant."""

    NONE = "", "no reason needed"
    USE_NOT_PERMITTED = "use_not_permitted", "the intended use is not permitted by the licence"
    USE_UNCLEAR = "use_unclear", "the intended use is not described well enough"
    IDENTITY_UNCLEAR = "identity_unclear", "the identity or institution could not be confirmed"
    NO_BASE_LICENCE = "no_base_licence", "no right to the base model could be confirmed"
    EXPORT_RULES = "export_rules", "export rules do not allow it"
    DUPLICATE = "duplicate", "another request covers this one"
    OTHER = "other", "another reason"


class GrantSource(TextChoices):
    REVIEW = "review", "approved by a reviewer"
    POLICY = "policy", "approved by policy"
    OPERATOR = "operator", "granted by an operator"


class TokenKind(TextChoices):
    """What a token stands for; it never allows more than its person may."""

    GRANT = "grant", "one grant: reads that model"
    USER = "user", "its person: reads all their models"
    REVIEWER = "reviewer", "its person's roles as well: decides, and for owners changes settings and uploads"


class TokenOrigin(TextChoices):
    PAGE = "page", "made on a page"
    OPERATOR = "operator", "made by an operator"
    DEVICE = "device", "hf auth login"
    OIDC = "oidc", "exchanged by a trusted repository"


class DeviceState(TextChoices):
    """How far one `hf auth login` is."""

    WAITING = "waiting", "waiting for a person"
    APPROVED = "approved", "approved, not fetched yet"
    DENIED = "denied", "denied"
    USED = "used", "fetched"
    ENDED = "ended", "ended before it was fetched"


class AccessCode(TextChoices):
    """The answer to "may this person read this model now?", one code per sentence."""

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
    RESET = "reset", "the request was reset"
    LICENCE_OWED = "licence_owed", "a new licence text is to be accepted first"
    TOKEN_OUT_OF_SCOPE = "token_out_of_scope", "the token belongs to another model"
    DISABLED = "disabled", "the account is disabled"


class MailState(TextChoices):
    WAITING = "waiting", "waiting"
    SENT = "sent", "sent"
    FAILED = "failed", "given up"
    EXPIRED = "expired", "not sent in time"


class FarStatus(TextChoices):
    """The state of a request at a followed repository; `MISSING` where it is in none of the lists."""

    PENDING = "pending", "pending"
    ACCEPTED = "accepted", "accepted"
    REJECTED = "rejected", "rejected"
    RESET = "reset", "reset"
    MISSING = "missing", "not there"


class FollowState(TextChoices):
    FOLLOWING = "following", "following"
    PAUSED = "paused", "paused"
    REFUSED = "refused", "refused: waits for another token"
    ENDED = "ended", "not followed any more"


class PushState(TextChoices):
    DUE = "due", "to be told"
    CLAIMED = "claimed", "being told"
    DONE = "done", "told"
    FAILED = "failed", "given up"
    REPLACED = "replaced", "replaced by a later one"
