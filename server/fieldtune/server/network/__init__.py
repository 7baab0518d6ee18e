"""The coordinator of a real fleet: its folder, its SuperLink, and the devices behind it."""
