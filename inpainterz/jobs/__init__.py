"""Jobs: work that outlives the moment it was asked for.

`job` does a removal in finished steps that a killed run is resumed from; `plan` says beforehand
what it will take. `lane` queues work of several users in front of a device.

    job -> run -> follow -> passes   -> run_engines -> memory
               -> fill   -> pieces   -> scope, folder -> order
               -> write  -> pieces
"""
