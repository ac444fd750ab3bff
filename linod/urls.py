"""The addresses of the live page: ``path("linod/", include("linod.urls"))``."""

from django.urls import path

from linod import views

app_name = "linod"
urlpatterns = [
    path("", views.live, name="live"),
    path("state/", views.state, name="state"),
    path("icon/<int:number>.svg", views.icon, name="icon"),
    path("task/<int:task_id>/<slug:action>/", views.act, name="act"),
    path("job/<uuid:job_id>/cancel/", views.cancel_job, name="cancel_job"),
]
