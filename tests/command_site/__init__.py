"""The site on which the command is tested, in processes of its own."""
