"""The web page. Arrows run down; no module uses one that stands above it, or beside it unarrowed.

page                                          built and served
guard -> files, endpoints, plain              who comes in: files, programs, the plain page
actions                                       what the page's own component may ask
desk -> shelf                                 everybody's sessions; the engines
handlers/                                     what each event does to a session
    removal -> trial -> follow -> footage
    things, objects -> marks -> footage
render, words, owner                          what is shown, how it is said, who asks
inputs, pictures, proxy                       values, JPEGs and films
session -> work                               one user's clip and what is done to it
"""

import os

# read when gradio is imported, which must come after this: nothing is told to anybody
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
