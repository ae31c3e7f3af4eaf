"""The component: streams of a source, said in YAML.

It must not know how assets are made or landed: that stands beside it. Import from the modules.
"""
