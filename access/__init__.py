"""Who may call, and what they may do: see docs/security.md."""
