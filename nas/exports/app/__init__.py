"""An export for people without this package: pixels in, a program and a page that use it."""
