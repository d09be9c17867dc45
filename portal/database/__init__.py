"""Django's backend for PostgreSQL, with a pool, limits and a queue that depend on the kind of process.

base      the backend that the setting ENGINE names
budget    how many connections each part may hold
checks    checks that the server allows that many
kinds     database limits for each kind of process
line      a fair line for a number of places
patience  how long a request may still wait for connections
pool      the connections of one process
task      the base class of all Celery tasks
"""
