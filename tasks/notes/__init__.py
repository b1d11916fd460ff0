"""Texts that notes are to have: what REST was sent, until the vault has it."""
