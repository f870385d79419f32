"""A market that is made up, over Databento's own protocols, so that the real client can be tried without a key."""
