"""Make, store and deliver the weights of models; the work starts when access is granted.

admin              the admin's pages for weights, revisions and downloads
delivery           the three ways to send files: own, nginx, s3
hub                the Hugging Face Hub's protocol, as views
models             the tables
recovery           the engine: weights from a base and a diff; a separate library and command line
remote_hub         fetching from another Hub, and where its requests may go
services           every rule and every write
apps               Django's configuration of this app
body_slots         how many transfers may run at once, over all processes and machines
child_environment  which variables a worker's child processes get
download_log       the download log for pages, CSV tables and the admin
enums              states and kinds
file_access_lists  stored files that an access list opens to another user, such as nginx's
panels             what pages of requests, models and grants show about weights
queries            what is published, and the state of the rest
signals            where a grant becomes a delivery
tasks              Celery tasks: recoveries, deliveries, downloads, copies, cleaning
urls               the Hub's addresses
views              the progress of a recovery, which pages poll every two seconds
"""
