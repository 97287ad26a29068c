"""The control room: panels and commands that press public verbs."""
