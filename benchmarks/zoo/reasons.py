"""Why some programs are not judged as expected, by name. The page says it beside each miss."""

REASONS: dict[str, str] = {
    "sick/exploding_gradient/recurrent_matrix": (
        "one module runs 25 times in a step, and its calls are one site: the growth from call to call is merged into "
        "it, and from step to step nothing grows, for the gradients are clipped."
    ),
}
