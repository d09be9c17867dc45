"""A gated model together with its weights.

add_model    adds a model with its weights, and publishes what changed of it: all or nothing
import_card  a card from another Hub, its licence files, and who decides there
"""
