"""How Sphinx builds the documentation; nothing here needs the network."""

import django
from django.conf import settings

# autodoc imports linod's modules, and models need a site; it has no database.
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "linod"],
    USE_TZ=True,
)
django.setup()

import linod  # noqa: E402 - after the site is there

project = "linod"
author = "linod contributors"
copyright = author
release = version = linod.__version__

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
default_role = "code"
highlight_language = "default"
nitpicky = True
# Other projects' pages are not asked for; the rest are short names in docstrings and annotations.
nitpick_ignore_regex = [
    (r"py:\w+", r"(collections|datetime|dateutil|logging|pathlib)\..+"),
    (r"py:\w+", r"linod\.history\.(Job|Decision)"),
    (r"py:\w+", r"Job|Path|MAX_LISTED|time_zone|UnknownProcedure|linod\.procedures\.Function"),
]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

html_theme = "alabaster"
html_theme_options = {
    "description": "The one process beside a Django site's web server.",
    "fixed_sidebar": True,
    "page_width": "1000px",
    "sidebar_width": "230px",
}
html_sidebars = {"**": ["about.html", "navigation.html", "relations.html", "searchbox.html"]}
html_copy_source = False
html_show_sourcelink = False
