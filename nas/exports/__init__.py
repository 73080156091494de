"""The files that a network is taken away in, one kind a module; `nas.export` puts them together."""
