"""The static panels of the report, one module a section."""
