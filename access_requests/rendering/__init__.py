"""Render the Markdown of cards and forms as safe HTML, once, when a card is saved.

child     the child process that renders long texts, with limits on CPU time and memory
markdown  turns Markdown into safe HTML
process   renders short texts in this process and long ones in the child
texts     what pages show of a card and of a gate form
"""
