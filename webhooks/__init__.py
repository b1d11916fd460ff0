"""Webhooks: events of the feed, sent to receivers that subscribed, at least once and in order."""
