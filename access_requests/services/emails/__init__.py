"""Outgoing emails: a row first, sent by a worker afterwards.

mail_server  what the mail server's answers mean, and the pause while it fails
send         sends what is due: claimed, sent without a lock, noted; when a failed email is tried again
write        queues an email in the transaction that needs it
"""
