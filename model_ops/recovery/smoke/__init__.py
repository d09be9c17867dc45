"""Run a test prompt: does a result answer at all? This is the only part that imports transformers.

answer     `smoke_folder`: checks, loads, runs the prompt
generate   loads with transformers, encodes the prompt, generates
preflight  the requirements: a whole model, a tokenizer, transformers, memory
"""
