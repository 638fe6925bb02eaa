"""Enhancement of arrays, streams, files and folders by a trained generator."""
