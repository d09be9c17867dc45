"""Weights from a base and a released diff: exact, streamed, without a model class.

A library and a command line that import nothing of the portal. Start reading at `plan`, then `run`;
`docs/recovery.md` lists the modules and the public functions.
"""

ENGINE = "gatehouse-recovery"
ENGINE_VERSION = "1"
MANIFEST = "weights.manifest.json"
