"""The portal's way to PostgreSQL: Django's backend, with a pool, limits and a queue that depend on the kind of process."""
