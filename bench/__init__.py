"""What is measured on this machine: `./dev.py bench` and `./dev.py bench recovery`.

Beside the three rooms, like the tests: `bench.site` starts the portal, `bench.recovery` runs the engine's command
line and needs of this checkout nothing but `model_ops.recovery`, so that a bare machine can run it.
"""
