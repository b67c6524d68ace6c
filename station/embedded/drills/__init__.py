"""Drills: each starts a throw-away Station, breaks it, and counts whether one promise held."""
