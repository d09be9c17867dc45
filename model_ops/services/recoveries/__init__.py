"""Making weights. The row owns the job, not the broker.

child_process  a child that dies with us and reports by lines of JSON
copy_files     publishing files as they are: one pass that copies and hashes
deliver        from a grant to readable weights, and the email that says so
disk_space     the disk: what a recovery still needs, and what is free
engine         the engine as the portal uses it: plans here, runs in a child
failures       how work stops without weights: it waits, or fails with one sentence
fetch          brings the sources here: repositories fetched, folders checked
leases         who works on a row: claimed, renewed, lost
resume         hands out work again whose message was lost or whose worker died
run            one run of a recovery, from the claim to the published revision
shards         a recovery whose shards several workers make
test_prompt    asks published weights a test prompt
waiting        recoveries that cannot go on for now: next try, last try, who is informed
weights        which recovery makes a model's weights, its plan, cancel and retry
workspace      a recovery's folder, the lock on it, the child that works there
"""
