"""Markdown of cards and forms as safe HTML, made once when a card is saved.

child     the child process that renders long texts, with limits on CPU time and memory
markdown  Markdown to cleaned HTML
process   renders short texts here and long ones in the child
texts     what pages show of a card and of a gate form
"""
