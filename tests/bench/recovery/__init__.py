"""The recovery engine compared with the disk and with the peer: `./dev.py bench recovery`.

    sets        generated checkpoints, kept and marked
    page_cache  cold and warm inputs
    processes   a process watched from outside: time, memory, bytes
    copies      the fastest copy that this disk allows
    engine      the engine's command line, and a check of its output
    race        alternating rounds of copies and engine
    memory      peak memory on larger sets
    rivals, peer    the peer's steps on the same set
    small, loop     many small tensors against a plain loop
    report      tables
    cli         options, and the order of the parts

Needs only the standard library, torch, numpy and safetensors, and transformers for the peer.
"""
