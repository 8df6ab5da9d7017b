"""The command: one verb, one short function, no logic."""
