"""Open transactions where no daemon's jobs leave any."""

from __future__ import annotations

from contextlib import closing

import pytest
from django.db.utils import ConnectionHandler

from linod import leftovers


@pytest.mark.django_db
def test_a_database_in_memory_stays_and_its_locks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Django's test runner makes such databases, and does not close them."""
    name = "file:leftovers?mode=memory&cache=shared"
    handler = ConnectionHandler({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": name}})
    monkeypatch.setattr(leftovers, "connections", handler)
    former = handler["default"]
    with former.cursor() as cursor:
        cursor.execute("CREATE TABLE pages (id integer)")
    former.set_autocommit(False)
    with former.cursor() as cursor:
        cursor.execute("INSERT INTO pages VALUES (1)")
    assert leftovers.open_transactions() == {"default"}
    leftovers.throw_away("default")
    with closing(former.connection), handler["default"].cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM pages")
        assert cursor.fetchone() == (0,)
    handler["default"].connection.close()
