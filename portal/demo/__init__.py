"""The demo model, and a run through the whole job.

__main__   `./dev.py demo`
base       the base: SmolLM2-135M-Instruct, from a GGUF file to a Hugging Face folder
finetune   a few steps of fine-tuning on the conversations in this package
make_pair  makes base, tuned and diff in a child process
pair       `ensure_pair`: the models, made once and kept
steps      the whole job over HTTP, step by step
visitor    a minimal browser: cookies, links, forms
"""
