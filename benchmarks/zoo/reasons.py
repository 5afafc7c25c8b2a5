"""Why some programs are not judged as expected, by name. The page says it beside each miss."""

REASONS: dict[str, str] = {
    "sick/leaked_gradient/critic_cleared_too_late": (
        "the critic's loss does not reach the actor, so this is a trunk that learns from two losses: who wants that "
        "writes the same. A leak is told where each of two losses reaches what the other optimizer steps."
    ),
}
