"""Installation tokens: issue, mint, store, revoke."""
