"""Django's backend for PostgreSQL, with a pool, limits and a queue that depend on the kind of process.

base      the backend that the setting ENGINE names
budget    how many connections each part may hold
checks    whether the server allows that many
kinds     what each kind of process may ask of the database, and for how long
line      a fair line for a number of places
patience  how long one request may wait for connections
pool      the connections of one process
task      what all Celery tasks have in common
"""
