"""The download log.

counts     downloads per model and day, counted as the log is written
in_flight  bodies that this process is sending, and whether their right still holds
journal    what this process begins and ends, as lines in a file of its own
nginx_log  what nginx's access log says of the bodies it sent for us
rows       from the journal's lines to rows, by request id
"""
