"""Feature extractors: fixed networks whose vectors stand for images when models are judged."""
