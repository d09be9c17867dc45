"""Run a test prompt: does a result answer at all? This is the only part that imports transformers.

answer     `smoke_folder`: checks, loads, runs the prompt
generate   loading with transformers, encoding the prompt, generating
preflight  the requirements: a whole model, a tokenizer, transformers, memory
"""
