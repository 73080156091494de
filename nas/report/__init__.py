"""The report: a run as one HTML file that opens offline, or as a page that follows a live run.

`contents.py` gathers what the page shows, `page.py` puts it into one file, `server.py` serves it;
the page itself, in `assets/`, is HTML, CSS and JavaScript.
"""
