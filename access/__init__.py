"""Access control: who calls, and what they may do; see docs/security.md."""
