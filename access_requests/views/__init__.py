"""Pages of the people side: they read what was sent, call a service, and show what it says."""
