"""An application whose procedures do something that one can watch."""
