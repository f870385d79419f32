"""HTTP only: parse, call, shape."""
