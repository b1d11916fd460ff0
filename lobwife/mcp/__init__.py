"""MCP at /mcp: tools for models, each of which calls REST routes for its caller."""
