"""Make weights. The row owns the job, not the broker.

child_process  a child that dies with us and reports in lines of JSON
copy_files     publishing files as they are: one pass that copies and hashes
deliver        from a grant to readable weights, and the email that says so
disk_space     the disk: what a recovery still needs, and what is free
engine         the engine as the portal uses it: plans here, runs in a child
failures       how work stops without weights: it waits, or fails with one sentence
fetch          preparing sources: fetching repositories, checking folders
leases         which worker has a row: claimed, renewed, lost
resume         handing out work again after a lost message or a dead worker
run            one run of a recovery, from the claim to the published revision
shards         a recovery whose shards several workers make
test_prompt    running a test prompt on published weights
waiting        recoveries that cannot go on for now: next try, last try, who is informed
weights        which recovery makes a model's weights, its plan, cancel and retry
workspace      a recovery's folder, the lock on it, the child that works there
"""
