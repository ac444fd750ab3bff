"""The addresses of all sites."""

from django.contrib import admin
from django.http import HttpResponse
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="linod:live")),
    # Browsers ask for it on every page; a warning each time would fill the log that is shown.
    path("favicon.ico", lambda request: HttpResponse(status=204)),
    path("linod/", include("linod.urls")),
    path("admin/", admin.site.urls),
]
