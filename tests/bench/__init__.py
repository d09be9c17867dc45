"""Benchmarks on this machine, such as `./dev.py bench` and `./dev.py bench recovery`.

Apart from its own tests, `site` starts the portal, while `recovery` runs the engine's command line and needs
only `model_ops.recovery` from this checkout, so that it runs on a bare machine.
"""
