"""`nas device`: measure, check, fit and list devices."""
