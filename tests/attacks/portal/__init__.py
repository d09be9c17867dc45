"""Attacks on the portal: by anonymous senders, signed-in people, proxies, remote servers and database roles."""
