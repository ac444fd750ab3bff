"""Time: the rules, their answers around every clock change, and the fields that hold them."""
