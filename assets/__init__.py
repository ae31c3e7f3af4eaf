"""This project's streams: what is synced."""
