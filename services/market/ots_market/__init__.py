"""What all services must mean by the same market words: prices, symbols, sessions, timeframes, and the stored bars."""
