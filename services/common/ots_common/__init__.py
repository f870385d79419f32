"""What makes a Flask app one of the AI-OTS services. Holds no word of the market's."""

__version__ = "0.1.0"
