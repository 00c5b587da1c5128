"""The web page. Arrows run down; no module uses one that stands above it, or beside it unarrowed.

serve -> guard -> files                       how it is served; who comes in; files in and out
serve -> page -> endpoints, plain             what it is built of; for programs; the plain page
actions                                       what the page's own component may ask
desk -> lane, shelf, folder                   everybody's sessions; queue, engines, temporary files
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
