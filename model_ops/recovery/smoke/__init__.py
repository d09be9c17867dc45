"""A test prompt: does a result answer at all? The one part that imports transformers.

answer     `smoke_folder`: checks, loads, asks
generate   loading with transformers, encoding the prompt, generating
preflight  what must be there first: a whole model, a tokenizer, transformers, memory
"""
