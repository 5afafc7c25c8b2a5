"""The only place with torch and with state: hooks that measure a training run and never judge it."""
