"""Alerts and pings: the kinds, the rules and the delivery. Conditions of the whole service come from ops/alerts."""
