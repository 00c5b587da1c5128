"""DeAOT: decoupled features in hierarchical propagation, as a tracker."""
