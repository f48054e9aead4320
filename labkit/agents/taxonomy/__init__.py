"""Agents of every classical kind, each in a small Gymnasium world where it works and where it fails."""
