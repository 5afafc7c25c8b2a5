"""Why some programs are not judged as expected, by name. The page says it beside each miss."""

REASONS: dict[str, str] = {
    "sick/exploding_gradient/recurrent_matrix": (
        "one module runs 25 times in a step, and its calls are one site: the growth from call to call is merged, and "
        "at this learning rate nothing grows from step to step."
    ),
}
