"""Databento's records into PostgreSQL: each exactly once."""
