"""Data checkers: they look for rows that are valid for the database and wrong all the same."""
