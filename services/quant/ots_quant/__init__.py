"""The mathematics of AI-OTS: numpy arrays in, numpy arrays out; no input, no output, no state."""
