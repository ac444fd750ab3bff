"""Pages in the admin."""

from django.contrib import admin

from publisher.models import Page


@admin.register(Page)
class PageAdmin(admin.ModelAdmin):
    """Pages in their order."""

    list_display = ("seqno", "title", "parent", "published")
    list_display_links = ("title",)
    list_filter = ("published", "parent")
    list_select_related = ("parent",)
    search_fields = ("title", "body")
    prepopulated_fields = {"slug": ("title",)}
