"""What each event of the page does: session in, session out. No component is touched here.

Work that takes long is a generator (`Steps`) in `Session.working`: it yields the session between
two frames, looks whether its job is told to stop, and frees everything when it is closed. Who runs
it stands in `ui/desk.py`. What the browser sent goes through `ui/inputs.py`, also what the page
itself would never send.
"""
