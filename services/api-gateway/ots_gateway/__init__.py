"""The one door: who are you, may you, then on to a service."""
