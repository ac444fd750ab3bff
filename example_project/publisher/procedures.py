"""What ``publisher`` does in the background."""

from django.conf import settings

from linod import BaseRequest, schedule_daily
from publisher import publishing
from publisher.models import Page


@schedule_daily
def update_publisher_pages(ar: BaseRequest) -> None:
    """Write the published pages to files."""
    ar.info("Update published pages...")
    folder = settings.PUBLISHER_ROOT
    folder.mkdir(parents=True, exist_ok=True)
    pages = list(Page.objects.filter(published=True))
    written = set()
    for done, (page, text) in enumerate(publishing.render(pages), start=1):
        try:
            written.add(publishing.write(folder, page.slug, text))
        except publishing.UnsafeName as error:
            ar.error("Page #%d is left out: %s", page.pk, error)
        ar.progress(done, len(pages), page.title)
    publishing.remove_others(folder, keep=written)
    ar.info("%d pages have been updated.", len(written))
