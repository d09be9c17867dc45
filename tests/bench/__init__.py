"""What is measured on this machine: `./dev.py bench` and `./dev.py bench recovery`.

Beside its own tests: `site` starts the portal, `recovery` runs the engine's command
line and needs of this checkout nothing but `model_ops.recovery`, so that a bare machine can run it.
"""
