"""PostgreSQL, Valkey and the whole portal started from Python, for development, demo, tests and one machine.

`servers(state)` runs the two servers; `portal.embedded.supervisor.run_portal(state)` runs everything.
Both are context managers, and what they start dies with this process, however it ends.
"""

from portal.embedded.errors import StartError
from portal.embedded.servers import EmbeddedServers, ServerUrls, embedded_servers, servers, wipe_servers

__all__ = ["EmbeddedServers", "ServerUrls", "StartError", "embedded_servers", "servers", "wipe_servers"]
