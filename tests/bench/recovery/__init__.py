"""The recovery engine against the disk, and against the peer: `./dev.py bench recovery`.

    sets        the made-up checkpoints, kept and marked
    page_cache  cold and warm inputs
    processes   a process watched from outside: time, memory, bytes
    copies      the fastest copy that this disk allows
    engine      the engine's command line, and its output checked
    race        rounds of copies and engine in turn
    memory      peak memory on larger sets
    rivals, peer    the peer's steps on the same set
    small, loop     many small tensors against a plain loop
    report      tables
    cli         options, and the order of it all

Standard library, torch, numpy and safetensors alone; transformers for the peer.
"""
