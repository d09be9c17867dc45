"""The weights side: what is made, where it lies, how it leaves. It starts at a grant.

admin              the admin's pages of weights, revisions and downloads
delivery           the three ways out for bytes: own, nginx, s3
hub                the Hugging Face Hub's protocol, as views
models             the tables
recovery           the engine: weights from a base and a diff; a library and command line of its own
remote_hub         fetching from another Hub, and where such requests may go
services           every rule and every write
apps               Django's configuration of this app
body_slots         how many bodies may run at once, over all processes and machines
child_environment  which variables a worker's child processes get
download_log       the download log as pages, tables and the admin read it
enums              states and kinds, as data
file_access_lists  stored files that an access list opens to another user, such as nginx's
panels             what the weights side shows on pages of requests, models and grants
queries            what is published, and how far the rest is
signals            where a grant becomes a delivery
tasks              Celery tasks: recoveries, deliveries, downloads, copies, cleaning
urls               the Hub's addresses
views              the progress of a recovery, which pages ask for every two seconds
"""
