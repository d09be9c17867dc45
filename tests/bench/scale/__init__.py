"""`./dev.py bench scale`: a portal with very many requests, people and events, and how long its pages and lists take."""
