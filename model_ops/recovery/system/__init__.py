"""What the engine needs from the operating system.

available_memory  how much memory this process may still use
control           bytes done and the request to stop, shared by a job and the process that watches it
locks             advisory locks on files
page_cache        releasing cached pages
signals           SIGINT and SIGTERM as a request to stop cleanly
"""
