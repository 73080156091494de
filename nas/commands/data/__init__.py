"""`nas data`: what is in a data set, and what a search does with it.

`command.py` has the options, `report.py` the facts in words and as JSON, `sheet.py` the page.
"""
