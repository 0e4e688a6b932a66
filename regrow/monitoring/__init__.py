"""Rules for Prometheus and dashboards for Grafana, made out of the definitions that Regrow itself goes by.

Prometheus is a second pair of eyes: it watches the watcher, and keeps figures for as long as one likes. What
is planned (maintenance, silences, escalation) Regrow knows better.
"""
