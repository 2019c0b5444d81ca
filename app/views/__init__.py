"""One module per view: pure functions that make a figure, and a thin viewer that wires it."""
