"""What tasks cost, and what they may cost: costs, prices, budgets."""
