"""What makes a Flask app one of the AI-OTS services. Holds no word of the market's."""

__version__ = "0.1.0"

import sys

# redis imports OpenTelemetry's metrics wherever they are installed, which takes 8 MB of each process, and records
# nothing with them: until there are traces (see traces.start) they look as if they were not there
HIDDEN = ("opentelemetry.metrics", "opentelemetry.sdk.metrics")
for _name in HIDDEN:
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]
