"""What the engine needs from the operating system.

available_memory  how much memory this process may still take
control           bytes done and the request to stop, shared by a job and the process that watches it
locks             advisory locks on files
page_cache        releasing cached pages
signals           SIGINT and SIGTERM as an orderly end
"""
