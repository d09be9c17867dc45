"""What the engine asks of the operating system.

available_memory  how much memory this process may still take
control           bytes done and the wish to stop, shared by a job and the process that watches it
locks             advisory locks on files
page_cache        giving cached pages back
signals           SIGINT and SIGTERM as an orderly end
"""
