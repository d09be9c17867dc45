"""The append-only event log.

anchors     the log's head, signed and kept outside the database
append      `recorded()` and `append_event`, the hash chain and its check
protection  what the portal's database role could do to the log, as the database says
verify      the whole check: chain, anchors, licence texts, a head kept elsewhere
"""
