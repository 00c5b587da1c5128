"""Jobs: a removal that outlives the moment it was asked for.

`job` does it in finished steps that a killed run is resumed from; `plan` says beforehand what it
will take.

    job -> run -> follow -> passes   -> run_engines -> memory
               -> fill   -> pieces   -> scope, folder -> order
               -> write  -> pieces
"""
