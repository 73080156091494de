"""The report: a run as one HTML file that opens offline, or as a page that follows a live run.

`contents.py` collects the data of the page, `page.py` assembles the file, `server.py` serves it.
The page itself is HTML, CSS and JavaScript in `assets/`. `figures.py` draws single figures.
"""
