"""The component: streams of a source as YAML describes them. Import from the modules.

Must not know: how assets are built or landed.
"""
