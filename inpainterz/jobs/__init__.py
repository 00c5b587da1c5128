"""Jobs: work that outlives the moment it was asked for.

`lane` queues work of several users in front of a device; `job` does a removal in finished pieces
that a killed run is resumed from; `plan` says beforehand what it will take.
"""
