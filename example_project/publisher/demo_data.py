"""A garden handbook of 72 pages: a chapter for each month, with five pages each."""

from django.utils.text import slugify

from publisher.models import Page

MONTHS = """January February March April May June July August September October November
December""".split()
BEDS = {
    "Apples": "Look at the trees after every storm",
    "Beans": "Keep the rows clear of weeds",
    "Herbs": "Cut a little, but often",
    "Potatoes": "Keep them dark and dry",
    "Roses": "Take off what has faded",
}


def load() -> None:
    """Write the pages, unless there are some."""
    if Page.objects.exists():
        return
    seqno = 1
    for month in MONTHS:
        chapter = Page.objects.create(
            seqno=seqno,
            slug=slugify(month),
            title=f"The garden in {month}",
            body=f"What there is to do in {month}, bed by bed.",
        )
        pages = [
            Page(
                seqno=seqno + place,
                slug=slugify(f"{month} {bed}"),
                title=f"{bed} in {month}",
                body=f"{advice} & note it in the garden book.\n\nMore about {bed} next month.",
                parent=chapter,
            )
            for place, (bed, advice) in enumerate(BEDS.items(), start=1)
        ]
        Page.objects.bulk_create(pages)
        seqno += len(pages) + 1
