"""The dashboards of Grafana as code; `monitoring/grafana/generate.py` writes them as JSON."""
