"""`./dev.py bench scale`: page and list times of a portal with very many requests, people and events."""
