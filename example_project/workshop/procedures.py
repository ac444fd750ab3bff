"""What the workshop does in the background: it pretends, but in the open.

Nothing is stored. The pauses stand for work, so that somebody who watches sees progress; they end
at once when a job is asked to stop, because ``ar.progress()`` then raises.
"""

import asyncio
import random
import time

from linod import BaseRequest, background_task


@background_task(every_unit="minutely", every=1, disable_after=0)
def import_orders(ar: BaseRequest) -> None:
    """Read the orders that came in through the shop."""
    total = random.randint(120, 240)
    ar.info("%d orders are waiting", total)
    for number in range(total):
        ar.progress(number, total, f"order {4000 + number}")
        if number % 50 == 49:
            ar.info("%d orders are in the books", number + 1)
        if random.random() < 0.01:
            ar.warning("Order %d has no address: somebody must ask", 4000 + number)
        time.sleep(0.12)
    ar.progress(total, total, "orders")
    ar.info("All %d orders are in the books", total)


@background_task(every_unit="minutely", every=2)
async def resize_pictures(ar: BaseRequest) -> None:
    """Make small pictures of the photographs of new products."""
    for number in range(60):
        ar.progress(number, 60, f"IMG_{2100 + number}.jpg")
        await asyncio.sleep(0.8)
    ar.progress(60, 60, "pictures")
    await ar.ainfo("60 small pictures were made")


@background_task(every_unit="minutely", every=1, disable_after=0, timeout=120)
def ask_suppliers(ar: BaseRequest) -> None:
    """Ask each supplier what is in stock; one of them does not always answer.

    Arguments: ``silent``, how likely that is (0 to 1), ``pause``, seconds for each supplier.
    """
    silent, pause = ar.arguments.get("silent", 0.4), ar.arguments.get("pause", 3)
    for number, supplier in enumerate(("Birch & Sons", "Copper Lane", "The Glue Works")):
        ar.progress(number, 3, supplier)
        time.sleep(pause)
        if supplier == "Copper Lane" and random.random() < silent:
            raise ConnectionError("Copper Lane does not answer (503 Service Unavailable)")
        ar.info("%s has %d things in stock", supplier, random.randint(10, 900))
    ar.progress(3, 3, "suppliers")


@background_task(every_unit="minutely", every=5)
def check_links(ar: BaseRequest) -> None:
    """Look for pages of the shop that lead nowhere."""
    found = 0
    for number in range(80):
        ar.progress(number, None, f"pages, {found} dead links")
        if random.random() < 0.04:
            found += 1
            ar.warning("Page %d links to one that is gone", number)
        time.sleep(0.4)
    ar.info("80 pages hold %d dead links", found)


@background_task(every_unit="hourly", every=1)
def count_stock(ar: BaseRequest) -> None:
    """Count what stands on the shelves."""
    ar.info("%d things stand on the shelves", random.randint(2000, 3000))


@background_task(every_unit="daily", start_time="02:30")
def back_up(ar: BaseRequest) -> None:
    """Copy the books to another place."""
    for number in range(20):
        ar.progress(number, 20, "volumes")
        time.sleep(0.5)
    ar.progress(20, 20, "volumes")
    ar.info("20 volumes were copied")


@background_task(every_unit="monthly", positions="-1", monday=True, tuesday=True,
                 wednesday=True, thursday=True, friday=True)  # fmt: skip
def close_month(ar: BaseRequest) -> None:
    """Close the books on the last working day of the month."""
    ar.info("The books are closed")


@background_task(every_unit="weekly", monday=True, start_time="07:00")
def print_catalogue(ar: BaseRequest) -> None:
    """Send the catalogue to the printer."""
    ar.info("The catalogue is at the printer's")
