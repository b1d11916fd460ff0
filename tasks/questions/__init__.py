"""Questions of agents, and what people answer."""
