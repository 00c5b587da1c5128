"""The web page."""

import os

# read when gradio is imported, which must come after this: nothing is told to anybody
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
