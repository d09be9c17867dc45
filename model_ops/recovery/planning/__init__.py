"""Make the plan of a run from little more than headers, without torch.

blocks            cuts an output file into blocks, and each block into pieces
columns           how an embedding is cut to compute the mean of its rows
diff_facts        what our own make_diff recorded with a diff
expected_sum      the sum of parameters that a publisher states
grown_embeddings  embeddings with more or fewer rows than the base's
identity          whether inputs are still the same files
manifest          weights.manifest.json
memory            how much memory a run takes
name_prefixes     a base whose tensor names begin differently
options           what a person can choose about the result
plan              what a plan is: shards, files, sizes; as JSON and as text
planner           `make_plan`, `make_diff_plan`
rules             what happens to each tensor, as a table of tasks
xor               the plan of a byte-wise diff
"""
