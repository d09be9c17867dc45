"""Write the download log.

counts     downloads per model and day, counted as the log is written
in_flight  bodies that this process is sending, and whether their right still holds
journal    what this process begins and ends, as lines in its own file
nginx_log  the ends of bodies that nginx sent for us, from its access log
rows       turning the journal's lines into rows, by request id
"""
