"""Events: what a source declares, how bytes become typed rows, what goes to quarantine."""
