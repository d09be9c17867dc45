"""Gated models: what owners change about them.

demand_licence  requiring holders of grants to accept a licence text, and their acceptance
edit            what an owner changes in the admin: settings, form fields, licence texts
gated_models    adding a model; its card, form, licences and roles
names           renaming a model, former ids, full names of namespaces
rendered_texts  storing the HTML of cards and forms, and making it again after a new renderer
"""
