"""Recover weights from a base and a released diff: exactly, as a stream, and without a model class.

A library and a command line that do not import the portal. Start reading at `planning.planner`, then
`execution.run`; `docs/recovery.md` lists the modules and the public functions. Each folder may import those below it:

smoke        runs a test prompt on a result, with transformers
execution    carries out a plan: blocks, devices, checks, the end of a run
workdir      `TARGET.partial/` and its records, an existing target, writing files
planning     turns headers into a plan: which tensors, files and blocks, and how much memory
checkpoints  one checkpoint folder: its tensors, tied names and buffers
inspection   what a source folder holds in place of weights, and what to do about it
formats      reads files: safetensors, torch zip and pickle, JSON, names, layout
system       locks, signals, memory, page cache, the control of a running job
__main__     `python -m model_ops.recovery`
cli          the command line
errors       `Refusal`, `Failure`, `Cancelled`: how a run ends without weights
verify       checks a folder against its manifest
"""

ENGINE = "gatehouse-recovery"
ENGINE_VERSION = "1"
MANIFEST = "weights.manifest.json"
