"""Gated models: what owners change about them.

demand_licence  requires holders of grants to accept a licence text, and stores their acceptance
edit            an owner's changes in the admin: settings, form fields, licence texts
families        groups models of one namespace that people can ask for with one form
gated_models    adds a model; changes its card, form and licences
languages       licences in several languages, of which one binds
message_texts   message templates of a model, with placeholders
names           renames a model; former ids; full names of namespaces
rendered_texts  stores the HTML of cards and forms, and renders it again with a new renderer
roles           gives people roles, invites them, takes roles away
"""
