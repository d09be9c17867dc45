"""The rules of the people side, and everything that writes to the database.

Views, admin, tasks and commands call these.

catalogue       models, their cards, forms, licences and names
emails          emails: queued, sent, paused while the mail server fails
event_log       the append-only log, its verification and its signed anchors
following       gated repositories elsewhere whose requests are decided here
oauth           signing in from a client: device flow, machines, CI identities
requests        what applicants and reviewers do with a request
tokens          access tokens: created, checked, rotated, revoked
delete_expired  deletes emails and codes that are kept for a limited time
grants          grants: created, expired, revoked
leaked_secrets  revokes tokens that someone found and reported
leases          workers' claims on rows: taken by compare-and-swap, renewed, lost
list_places     stores in which of the Hub's lists a person is
locks           the rows and names that services lock, in their order
queue           wakes a worker after a commit
"""
