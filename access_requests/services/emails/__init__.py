"""Outgoing emails: stored as rows first, then sent by a worker.

mail_server  interprets the mail server's answers, and pauses all emails while it fails
send         sends what is due: claims, sends without a lock, records; retries of failed emails
write        queues an email in the transaction that needs it
"""
