"""Add and change gated models together with their weights.

add_model    adding a model with its weights and publishing changes: all or nothing
import_card  importing a card from another Hub, with its licence files and kind of gate
"""
