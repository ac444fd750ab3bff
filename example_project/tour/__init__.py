"""The site that ``make demo`` shows: a team with a workshop, where there is something to watch."""
