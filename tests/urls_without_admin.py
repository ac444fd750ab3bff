"""The addresses of a site that has the live page and no admin."""

from django.urls import include, path

urlpatterns = [path("", include("linod.urls"))]
