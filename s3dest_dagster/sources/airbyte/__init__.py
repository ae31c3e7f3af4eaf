"""Airbyte source connectors: their process, their protocol, their configuration and their states."""
