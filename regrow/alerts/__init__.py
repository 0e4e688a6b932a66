"""Alerts: rules that watch, who is told when and by what, and why (or why not)."""
