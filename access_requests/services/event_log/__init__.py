"""The append-only event log.

anchors     the log's head, signed and kept outside the database
append      `recorded()` and `append_event`; the hash chain and its verification
protection  asks the database what the portal's role could do to the log
verify      verifies everything: chain, anchors, licence texts, a head kept elsewhere
"""
