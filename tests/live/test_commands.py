"""Commands by message: what makes no sense, and what is not allowed, is refused in one line."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User

from linod import claims, commands
from linod.commands import Refused
from linod.history import Decision, Job
from linod.records import Terms
from tests.daemons import make_task, only_these_procedures

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with only_these_procedures():
        yield


@pytest.fixture
def user() -> User:
    user = User.objects.create_user("ben")
    rights = ["run_backgroundtask", "cancel_backgroundtask"]
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    return user


def test_a_run_is_requested(user: User) -> None:
    task = make_task(lambda: None, "work")
    for given in (task.pk, "work"):
        commands.run_task("default", {"task": given, "user": user.pk})
        task.refresh_from_db()
        assert task.requested_by == user
    assert Decision.objects.filter(kind="requested", who="ben").count() == 1


def test_a_job_is_cancelled(user: User) -> None:
    task = make_task(lambda: None, "work")
    terms = Terms("default", uuid.uuid4(), 30.0)
    job = claims.claim_now(terms, task, None)
    commands.cancel_job("default", {"job": str(job.id), "user": user.pk})
    assert Job.objects.get().cancel_requested_at is not None
    assert Decision.objects.filter(kind="cancelled", who="ben").exists()


@pytest.mark.parametrize(
    "given",
    [None, 0, -1, 7, 2**70, True, 1.5, "", "x" * 10_000, "nothing", [], {}, {"pk": 1}, b"work"],
)
def test_no_such_task(given: Any) -> None:
    with pytest.raises(Refused, match="task: there is no task") as refusal:
        commands.run_task("default", {"task": given})
    assert len(str(refusal.value)) < 100


@pytest.mark.parametrize("given", [None, "", "x", 7, "0" * 1000, [], str(uuid.UUID(int=7))])
def test_no_such_job(given: Any) -> None:
    with pytest.raises(Refused, match="job: ") as refusal:
        commands.cancel_job("default", {"job": given})
    assert len(str(refusal.value)) < 100


@pytest.mark.parametrize("given", [0, -1, 2**70, "ben", [], {}, 1.5, "x" * 10_000])
def test_no_such_user(given: Any) -> None:
    task = make_task(lambda: None, "work")
    with pytest.raises(Refused, match="user: ") as refusal:
        commands.run_task("default", {"task": task.pk, "user": given})
    assert len(str(refusal.value)) < 120
    task.refresh_from_db()
    assert task.requested_at is None


def test_a_user_who_may_not() -> None:
    task = make_task(lambda: None, "work")
    user = User.objects.create_user("ben")
    with pytest.raises(Refused, match="lacks the permission linod"):
        commands.run_task("default", {"task": task.pk, "user": user.pk})
    user.is_superuser, user.is_active = True, False
    user.save()
    with pytest.raises(Refused, match="lacks"):
        commands.run_task("default", {"task": task.pk, "user": user.pk})


def test_a_job_that_has_ended_is_no_fault() -> None:
    task = make_task(lambda: None, "work")
    terms = Terms("default", uuid.uuid4(), 30.0)
    job = claims.claim_now(terms, task, None)
    Job.objects.update(state="succeeded")
    assert "has ended already" in commands.cancel_job("default", {"job": str(job.id)})
