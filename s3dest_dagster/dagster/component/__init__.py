"""The component: streams of a source, described in YAML. Import from the modules.

Must not know: how assets are built or landed.
"""
