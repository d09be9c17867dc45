"""Every rule of the people side and every write. Views, admin, tasks and commands call these.

catalogue       models, their cards, forms, licences and names
emails          emails: queued, sent, paused while the mail server fails
event_log       the append-only log, its check and its signed anchors
following       gated repositories elsewhere whose requests are decided here
oauth           signing in from a client: device flow, machines, CI identities
requests        what applicants and reviewers do with a request
tokens          access tokens: made, checked, rotated, revoked
delete_expired  deletes emails and codes that are kept for a limited time
grants          grants: made, ended by time, revoked
leaked_secrets  ends tokens that someone found and reported
leases          claims on rows: taken by compare-and-swap, renewed, lost
list_places     writes in which of the Hub's lists a person is
locks           the rows and names that services lock, in their order
queue           wakes a worker after commit
"""
