"""The addresses of a site that has the admin and gives the live page no address of its own."""

from django.contrib import admin
from django.urls import path

urlpatterns = [path("manage/", admin.site.urls)]
