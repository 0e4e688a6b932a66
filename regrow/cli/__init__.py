"""The ``regrow`` command: one file a noun, loaded when its command is used."""
