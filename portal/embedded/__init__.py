"""PostgreSQL, Valkey and the whole portal started from Python, for development, demo, tests and one machine.

`servers(state)` runs the two servers; `portal.embedded.supervisor.run_portal(state)` runs everything.
Both are context managers, and what they start dies with this process, however it ends.

__main__    the command line behind `./dev.py up` and `./dev.py manage`
_exec       becomes one command that dies with its parent, as another user if requested
binaries    where the server programs are
errors      errors that prevent the portal from starting
identity    the user that PostgreSQL runs as
listening   the portal's listening socket, opened first
manage      Django's command line, with servers to run it on
postgres    PostgreSQL on a private socket, never as root
prepare     migrations, the owner's link, the report on gaps in protection
processes   child processes that die with us
programs    the programs that run next to the servers
roles       the two roles of the embedded database
servers     PostgreSQL and Valkey of one state folder
state       the state folder: where its files are, and who is using it
supervisor  the whole portal as one process tree
valkey      Valkey (or Redis) on a private socket
"""

from portal.embedded.errors import StartError
from portal.embedded.servers import EmbeddedServers, ServerUrls, embedded_servers, servers, wipe_servers

__all__ = ["EmbeddedServers", "ServerUrls", "StartError", "embedded_servers", "servers", "wipe_servers"]
