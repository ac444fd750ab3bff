"""A workshop that sells what it makes: work that one can watch, with numbers out of thin air."""
