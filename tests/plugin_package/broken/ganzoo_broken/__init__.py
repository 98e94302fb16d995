"""Fails at import, as a package does that was built for another version of what it needs."""

raise ImportError("libcracked.so.7: cannot open shared object file")
