"""The working copy and the remote of the vault."""
