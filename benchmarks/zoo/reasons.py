"""Why some programs are not judged as expected, by name. The page says it beside each miss."""

REASONS: dict[str, str] = {}
