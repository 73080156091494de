"""What a setting is, and the files that hold settings.

`option.py` describes one setting, `files.py` reads JSON, TOML and YAML. Does not know the settings
themselves (`nas/run/specification.py`).
"""
