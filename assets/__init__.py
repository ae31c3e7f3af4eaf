"""This project's streams."""
