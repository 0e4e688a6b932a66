"""Incidents: what failed, since when, why, who took it on, what it cost; one for each root."""
