"""What the fleet's scheduled scripts share. They talk to lobwife over REST alone, and import nothing of it."""
